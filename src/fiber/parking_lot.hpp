// ParkingLot: where fibers and native threads wait for an address.
#pragma once

#include <atomic>
#include <cstdint>

#include "fiber/carrier.hpp"
#include "fiber/futex_lock.hpp"

namespace weft::engine {

/// One table, keyed by address, of everything in the process that waits for a semaphore, mutex, condition or
/// thread.
///
/// A waiter is the running fiber, or the OS thread itself where it runs none or may not switch now; both
/// kinds can wait for the same address, and are woken in the order they came. Idea and name: WebKit's
/// WTF::ParkingLot (F. Pizlo, "Locking in WebKit", 2016). All functions may be called on any thread; none
/// from a signal handler.
class ParkingLot {
 public:
  /// The process's table, made at first use and never destroyed.
  static ParkingLot& instance() noexcept;

  /// Waits at `address` until a wake, the absolute CLOCK_MONOTONIC time `deadline`, or what `flags`
  /// (WaitFlags) allow.
  ///
  /// `validate()` is called with the address's queue locked, the caller queued: if it returns false the call
  /// returns Wake::kReady at once. So a waker that changes the state first and then calls wake() is never
  /// missed. `before()` is called after that, unlocked, just before the caller suspends: to let go of a
  /// mutex. Neither may switch or touch the lot, but that `before` may wake other addresses.
  template <typename Validate, typename Before>
  Wake park(const void* address, Nanos deadline, uint8_t flags, const WaitReason& reason, Validate&& validate,
            Before&& before) noexcept {
    Waiter waiter;
    waiter.address = address;
    Bucket& bucket = bucket_of(address);
    bucket.lock.lock();
    // Either the waker sees this count, or validate() sees what the waker changed before it looked.
    bucket.waiters.fetch_add(1, std::memory_order_seq_cst);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!validate()) {
      bucket.waiters.fetch_sub(1, std::memory_order_relaxed);
      bucket.lock.unlock();
      return Wake::kReady;
    }
    append(bucket, waiter, flags, reason);
    bucket.lock.unlock();
    before();
    return suspend(bucket, waiter, deadline, flags);
  }

  template <typename Validate>
  Wake park(const void* address, Nanos deadline, uint8_t flags, const WaitReason& reason,
            Validate&& validate) noexcept {
    return park(address, deadline, flags, reason, validate, [] {});
  }

  /// Wakes the first waiter at `address`. Returns how many it woke: 0 or 1. Costs a fence and a load when
  /// there is none.
  int wake_one(const void* address, Turn turn = Turn::kNext) noexcept { return wake(address, 1, turn); }
  int wake_all(const void* address, Turn turn = Turn::kNext) noexcept {
    return wake(address, INT32_MAX, turn);
  }
  int wake(const void* address, int count, Turn turn = Turn::kNext) noexcept {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (bucket_of(address).waiters.load(std::memory_order_relaxed) == 0) return 0;
    return wake_slow(address, count, turn);
  }

  /// Wakes every OS thread that waits here without a fiber, as if its address had been woken: to look again
  /// whether this is the place to wait.
  void wake_threads() noexcept;

  /// In a fork child: forgets all waiters.
  void reset_after_fork() noexcept;

 private:
  struct Waiter {
    const void* address = nullptr;
    Fiber* fiber = nullptr;  // null: an OS thread, which waits for `woken`
    uint64_t ticket = 0;
    std::atomic<uint32_t> woken{0};
    bool queued = false;
    // The waiters of one address are a doubly linked list in order of arrival. Its first is on the bucket's
    // singly linked list of addresses, and knows the last.
    Waiter* next = nullptr;
    Waiter* previous = nullptr;
    Waiter* last = nullptr;
    Waiter* next_address = nullptr;
  };
  // `lock` guards `first` and the links and `queued` of all its waiters. `waiters` counts those queued or
  // about to be, over all addresses of the bucket.
  struct Bucket {
    FutexLock lock;
    std::atomic<uint32_t> waiters{0};
    Waiter* first = nullptr;
  };

  // Enough that a million waiters are four to a bucket. Untouched pages cost nothing, and since neighbouring
  // addresses have neighbouring buckets, few pages are touched.
  static constexpr size_t kBuckets = size_t{1} << 18;

  ParkingLot() noexcept;
  Bucket& bucket_of(const void* address) noexcept {
    const auto bits = reinterpret_cast<uintptr_t>(address);
    return buckets_[((bits >> 4) ^ (bits >> 22)) & (kBuckets - 1)];
  }
  static void append(Bucket& bucket, Waiter& waiter, uint8_t flags, const WaitReason& reason) noexcept;
  static Waiter** find(Bucket& bucket, const void* address) noexcept;
  static void remove(Bucket& bucket, Waiter& waiter) noexcept;
  static Wake suspend(Bucket& bucket, Waiter& waiter, Nanos deadline, uint8_t flags) noexcept;
  int wake_slow(const void* address, int count, Turn turn) noexcept;

  Bucket* buckets_;
};

}  // namespace weft::engine
