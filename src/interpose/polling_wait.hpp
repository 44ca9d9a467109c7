// How a routed call of the polling family waits.
#pragma once

#include <csignal>
#include <ctime>

#include "fiber/clock.hpp"
#include "interpose/sockets_wait.hpp"

namespace weft::engine::interpose {

/// The bits of a mask as the kernel takes them; its size is kMaskSize.
inline const uint64_t* mask_bits(const sigset_t* mask) noexcept {
  return reinterpret_cast<const uint64_t*>(mask);
}
inline constexpr size_t kMaskSize = sizeof(uint64_t);

/// The deadline of a timeout in milliseconds; negative: none.
inline Nanos deadline_of(int milliseconds) noexcept {
  return milliseconds < 0 ? kNever : later(monotonic_now(), milliseconds * kMillisecond);
}

/// The deadline of a timeout that is valid; null: none.
inline Nanos deadline_of(const timespec* timeout) noexcept {
  return timeout ? later(monotonic_now(), to_nanos(*timeout)) : kNever;
}

inline bool is_zero(const timespec* timeout) noexcept {
  return timeout && timeout->tv_sec == 0 && timeout->tv_nsec == 0;
}

inline bool valid_timeout(const timespec* timeout) noexcept {
  return !timeout || (valid(*timeout) && timeout->tv_sec >= 0);
}

/// Such calls are interrupted by every handler: they are never restarted.
inline constexpr uint8_t kPollFlags = kInterruptible | kCancellable;

/// The errno with which a wait that was not for nothing ends the call; 0: look at the descriptors again.
inline int error_of(Wake wake) noexcept {
  return wake == Wake::kInterrupted ? EINTR : revocation_error(wake);
}

/// Room for the waits of a call: on the stack for a few descriptors, else on the heap.
class WaitArray {
 public:
  explicit WaitArray(size_t count) noexcept
      : count_(count), waits_(count <= kFew ? few_ : new (std::nothrow) FdWait[count]) {}
  ~WaitArray() {
    if (waits_ != few_) delete[] waits_;
  }
  WaitArray(const WaitArray&) = delete;
  WaitArray& operator=(const WaitArray&) = delete;

  explicit operator bool() const noexcept { return waits_ != nullptr; }
  FdWait& operator[](size_t i) noexcept { return waits_[i]; }
  std::span<FdWait> all() noexcept { return {waits_, count_}; }

 private:
  static constexpr size_t kFew = 8;
  size_t count_;
  FdWait few_[kFew];
  FdWait* waits_;
};

}  // namespace weft::engine::interpose
