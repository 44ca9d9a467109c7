// IoRing: an io_uring instance, as far as the poller needs one.
#pragma once

#include <liburing.h>

#include <atomic>

#include "fiber/clock.hpp"

namespace weft::engine {

/// The two queues shared with the kernel, and the system call that serves both. Used by one thread, the one
/// that calls enable(), unless said otherwise.
class IoRing {
 public:
  IoRing() noexcept = default;
  ~IoRing() { close(); }
  IoRing(const IoRing&) = delete;
  IoRing& operator=(const IoRing&) = delete;

  /// Sets the ring up, with the best flags the kernel knows. Returns 0 or a negated errno: -EPERM or -ENOSYS
  /// where it is refused, -ENOSYS where it is too old. Any thread.
  int open() noexcept;
  /// Makes the calling thread the ring's. REQUIRES: called once after open(), before what follows.
  void enable() noexcept;
  /// Gives up mapping and descriptor, touching neither queue; so it serves a fork child, too.
  void close() noexcept;

  /// A request to be filled in, made at the next enter(). Null if the queue is full.
  io_uring_sqe* next_request() noexcept {
    const uint32_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - load_acquire(ring_.sq.khead) >= ring_.sq.ring_entries) return nullptr;
    tail_.store(tail + 1, std::memory_order_relaxed);
    return &ring_.sq.sqes[tail & ring_.sq.ring_mask];
  }

  /// Hands over the requests, without looking for completions. Returns what the system call does.
  long submit() noexcept { return enter(0, kNever, 0); }

  /// Hands over the requests and has the kernel post completions; waits until there are `least`, or for
  /// `timeout`.
  long submit_and_collect(uint32_t least, Nanos timeout) noexcept {
    return enter(least, timeout, IORING_ENTER_GETEVENTS);
  }

  /// Takes one completion. False if there is none. The next may be taken while this one is being dealt with.
  bool next_completion(io_uring_cqe& completion) noexcept {
    const uint32_t head = *ring_.cq.khead;
    if (head == load_acquire(ring_.cq.ktail)) return false;
    completion = ring_.cq.cqes[head & ring_.cq.ring_mask];
    // Release: the kernel may write here again only after the entry was copied.
    std::atomic_ref(*ring_.cq.khead).store(head + 1, std::memory_order_release);
    return true;
  }

  /// How many requests were not handed over yet. Any thread.
  uint32_t unsubmitted() const noexcept {
    return tail_.load(std::memory_order_relaxed) - load_acquire(ring_.sq.khead);
  }
  /// A completion can be taken. Any thread.
  bool has_completion() const noexcept {
    return load_acquire(ring_.cq.khead) != load_acquire(ring_.cq.ktail);
  }
  /// The kernel has completions that there was no room for.
  bool has_overflow() const noexcept { return (load_acquire(ring_.sq.kflags) & IORING_SQ_CQ_OVERFLOW) != 0; }
  /// The kernel has completions that it posts only when it is entered. Any thread.
  bool has_work_in_kernel() const noexcept {
    return (load_acquire(ring_.sq.kflags) & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)) != 0;
  }

  bool enabled() const noexcept { return thread_id_ != 0; }
  uint32_t features() const noexcept { return ring_.features; }

 private:
  static uint32_t load_acquire(uint32_t* word) noexcept {
    return std::atomic_ref(*word).load(std::memory_order_acquire);
  }
  int set_up() noexcept;
  long enter(uint32_t least, Nanos timeout, uint32_t flags) noexcept;

  io_uring ring_{};
  int fd_ = -1;
  int enter_fd_ = -1;  // fd_, or its index among the thread's registered rings
  uint32_t enter_flags_ = 0;
  int thread_id_ = 0;
  std::atomic<uint32_t> tail_{0};  // written by the ring's thread only
};

}  // namespace weft::engine
