// SharedMutex: many readers, or one writer.
#pragma once

#include "weft/error.hpp"

namespace weft {

/// A SharedLockable: std::shared_lock and std::unique_lock work with it. Once a writer waits, new readers
/// wait too, so that writers are not starved; a fiber must therefore not lock it shared twice. Waiting is no
/// cancellation point. Any thread.
class SharedMutex {
 public:
  constexpr SharedMutex() noexcept = default;
  SharedMutex(const SharedMutex&) = delete;
  SharedMutex& operator=(const SharedMutex&) = delete;

  void lock() noexcept {
    if (!try_lock()) lock_slowly(detail::kNever);
  }
  bool try_lock() noexcept {
    uint64_t expected = state_.load(std::memory_order_relaxed);
    return (expected & (kWriter | kReaders)) == 0 &&
           state_.compare_exchange_strong(expected, expected | kWriter, std::memory_order_acquire,
                                          std::memory_order_relaxed);
  }
  template <typename Rep, typename Period>
  bool try_lock_for(std::chrono::duration<Rep, Period> span) noexcept {
    return try_lock() || lock_slowly(detail::deadline_after(span));
  }
  WEFT_API void unlock() noexcept;

  void lock_shared() noexcept {
    if (!try_lock_shared()) lock_shared_slowly(detail::kNever);
  }
  bool try_lock_shared() noexcept {
    uint64_t seen = state_.load(std::memory_order_relaxed);
    while (!(seen & (kWriter | kWaitingWriters)))
      if (state_.compare_exchange_weak(seen, seen + kReader, std::memory_order_acquire,
                                       std::memory_order_relaxed))
        return true;
    return false;
  }
  template <typename Rep, typename Period>
  bool try_lock_shared_for(std::chrono::duration<Rep, Period> span) noexcept {
    return try_lock_shared() || lock_shared_slowly(detail::deadline_after(span));
  }
  WEFT_API void unlock_shared() noexcept;

 private:
  // One word, so that the last waiting writer to go and the first to come agree on whether readers may enter.
  static constexpr uint64_t kWriter = 1, kWaitingWriter = 2, kReader = uint64_t{1} << 32,
                            kReaders = ~(kReader - 1), kWaitingWriters = kReader - kWaitingWriter;

  WEFT_API bool lock_slowly(detail::Nanos deadline) noexcept;
  WEFT_API bool lock_shared_slowly(detail::Nanos deadline) noexcept;

  std::atomic<uint64_t> state_{0};  // readers park at its address
  char writers_ = 0;                // writers at this one
};

}  // namespace weft
