// What the process's pollers know of each descriptor.
#pragma once

#include <atomic>
#include <cstdint>

#include "fiber/futex_lock.hpp"
#include "poll/poller.hpp"

namespace weft::engine {

/// The waits for one descriptor number, on all carriers. All zeros is a valid entry that was never used.
struct FdEntry {
  FutexLock lock;
  /// Set once something of ours waited for the descriptor since it was last closed; read without the lock.
  std::atomic<bool> used;
  /// Changes when the number's file is known to have changed: registrations bear it, so that an event of the
  /// former file is told from one of the present. 0: never used.
  uint32_t generation;
  /// A bit for each epoll poller that registered the present file.
  uint64_t registered;
  /// Threads and fibers in closing(), which wait at this address for `waits` to shrink.
  uint32_t closers;
  /// Covers what is waited for on all epoll pollers.
  uint16_t armed;
  List<FdWait> waits;

  /// Makes the entry ready for use. REQUIRES: lock held.
  void open() noexcept {
    if (generation == 0) {
      waits.clear();
      generation = 1;
    }
    used.store(true, std::memory_order_release);
  }

  /// The number stands for another file, or none: what is known of the former one is void. REQUIRES: lock
  /// held.
  void next_file() noexcept {
    if (++generation == 0) generation = 1;
    registered = 0;
    armed = 0;
  }
};

/// One entry for each number, made of pages that are touched when used. Entries never move or go away.
class FdTable {
 public:
  /// The entry of `fd` if it was ever used, else null. REQUIRES: fd >= 0. Any thread.
  static FdEntry* find(int fd) noexcept {
    FdEntry* chunk = chunks_[fd >> kChunkBits].load(std::memory_order_acquire);
    if (!chunk) return nullptr;
    FdEntry& entry = chunk[fd & (kChunkSize - 1)];
    return entry.used.load(std::memory_order_acquire) ? &entry : nullptr;
  }

  /// The entry of `fd`; null without memory. REQUIRES: fd >= 0. Any thread.
  static FdEntry* at(int fd) noexcept {
    FdEntry* chunk = chunks_[fd >> kChunkBits].load(std::memory_order_acquire);
    if (!chunk && !(chunk = make_chunk(fd >> kChunkBits))) [[unlikely]]
      return nullptr;
    return &chunk[fd & (kChunkSize - 1)];
  }

  /// Calls visit(FdEntry&) with the lock held for every entry in use.
  template <typename Visit>
  static void for_each(Visit&& visit) noexcept {
    for (auto& slot : chunks_) {
      FdEntry* chunk = slot.load(std::memory_order_acquire);
      for (int i = 0; chunk && i < kChunkSize; ++i) {
        if (!chunk[i].used.load(std::memory_order_acquire)) continue;
        Guard guard(chunk[i].lock);
        visit(chunk[i]);
      }
    }
  }

  /// In a fork child, whose other threads and fibers are gone: forgets all.
  static void reset_after_fork() noexcept;
  /// True in a fork child that has not called reset_after_fork().
  static bool inherited() noexcept;

 private:
  static constexpr int kChunkBits = 16, kChunkSize = 1 << kChunkBits, kChunks = 1 << (31 - kChunkBits);

  static FdEntry* make_chunk(int index) noexcept;

  static std::atomic<FdEntry*> chunks_[kChunks];
  static std::atomic<int> process_;
};

}  // namespace weft::engine
