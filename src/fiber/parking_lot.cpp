#include "fiber/parking_lot.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <new>

#include "fiber/assert.hpp"
#include "fiber/sys.hpp"

namespace weft::engine {

ParkingLot& ParkingLot::instance() noexcept {
  alignas(ParkingLot) static std::byte storage[sizeof(ParkingLot)];
  static ParkingLot* lot = new (storage) ParkingLot;
  return *lot;
}

ParkingLot::ParkingLot() noexcept {
  // Zero pages are empty buckets: all members of a Bucket start as zeros.
  void* memory = mmap(nullptr, kBuckets * sizeof(Bucket), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  WEFT_ASSERT(memory != MAP_FAILED);
  buckets_ = static_cast<Bucket*>(memory);
}

ParkingLot::Waiter** ParkingLot::find(Bucket& bucket, const void* address) noexcept {
  Waiter** link = &bucket.first;
  while (*link && (*link)->address != address) link = &(*link)->next_address;
  return link;
}

void ParkingLot::append(Bucket& bucket, Waiter& waiter, uint8_t flags, const WaitReason& reason) noexcept {
  if (const ThreadState& thread = thread_state(); thread.carrier && thread.no_switch == 0) {
    waiter.fiber = &thread.carrier->running();
    waiter.ticket = waiter.fiber->begin_wait(flags, reason);
  }
  waiter.queued = true;
  Waiter** link = find(bucket, waiter.address);
  if (Waiter* first = *link; first && (flags & kFrontOfQueue)) {
    waiter.next = first;
    waiter.last = first->last;
    waiter.next_address = first->next_address;
    first->previous = &waiter;
    *link = &waiter;
  } else if (first) {
    waiter.previous = first->last;
    first->last->next = &waiter;
    first->last = &waiter;
  } else {
    *link = &waiter;
    waiter.last = &waiter;
  }
}

void ParkingLot::remove(Bucket& bucket, Waiter& waiter) noexcept {
  Waiter** link = find(bucket, waiter.address);
  Waiter* first = *link;
  WEFT_ASSERT(first);
  if (first == &waiter) {
    if (Waiter* second = waiter.next) {
      second->previous = nullptr;
      second->last = waiter.last;
      second->next_address = waiter.next_address;
      *link = second;
    } else {
      *link = waiter.next_address;
    }
  } else {
    waiter.previous->next = waiter.next;
    if (waiter.next)
      waiter.next->previous = waiter.previous;
    else
      first->last = waiter.previous;
  }
  waiter.queued = false;
  bucket.waiters.fetch_sub(1, std::memory_order_relaxed);
}

Wake ParkingLot::suspend(Bucket& bucket, Waiter& waiter, Nanos deadline, uint8_t flags) noexcept {
  Wake wake = Wake::kReady;
  if (waiter.fiber) {
    wake = waiter.fiber->carrier().park(deadline);
    if (wake == Wake::kReady) return wake;
    Guard guard(bucket.lock);
    if (waiter.queued) remove(bucket, waiter);
    return wake;
  }
  while (waiter.woken.load(std::memory_order_acquire) == 0) {
    const long error = sys::futex_wait(&waiter.woken, 0, deadline);
    if (error == -ETIMEDOUT)
      wake = Wake::kTimeout;
    else if (error == -EINTR && (flags & kInterruptible))
      wake = Wake::kInterrupted;
    else
      continue;
    Guard guard(bucket.lock);
    if (!waiter.queued) return Wake::kReady;  // woken after all, a moment too late to be told
    remove(bucket, waiter);
    return wake;
  }
  // The waker may still be inside wake_slow(), which touches the waiter until it lets go of the lock.
  bucket.lock.lock();
  bucket.lock.unlock();
  return wake;
}

int ParkingLot::wake_slow(const void* address, int count, Turn turn) noexcept {
  Bucket& bucket = bucket_of(address);
  // A fiber hands something over; an OS thread goes on besides.
  if (!Carrier::current()) turn = Turn::kInOrder;
  const bool newest = thread_state().wakes_newest;
  Guard guard(bucket.lock);
  int woken = 0;
  while (woken < count) {
    Waiter* waiter = *find(bucket, address);
    if (!waiter) break;
    if (newest) waiter = waiter->last;
    remove(bucket, *waiter);
    if (waiter->fiber) {
      // Fails when the fiber's wait has ended otherwise meanwhile: then the next waiter gets the wake.
      woken += waiter->fiber->unpark(waiter->ticket, Wake::kReady, turn);
    } else {
      waiter->woken.store(1, std::memory_order_release);
      sys::futex_wake(&waiter->woken, 1);
      ++woken;
    }
  }
  return woken;
}

void ParkingLot::wake_threads() noexcept {
  for (size_t i = 0; i < kBuckets; ++i) {
    Bucket& bucket = buckets_[i];
    if (bucket.waiters.load(std::memory_order_relaxed) == 0) continue;
    Guard guard(bucket.lock);
    for (Waiter* first = bucket.first; first;) {
      Waiter* next_address = first->next_address;
      for (Waiter* waiter = first; waiter;) {
        Waiter* next = waiter->next;
        if (!waiter->fiber) {
          remove(bucket, *waiter);
          waiter->woken.store(1, std::memory_order_release);
          sys::futex_wake(&waiter->woken, 1);
        }
        waiter = next;
      }
      first = next_address;
    }
  }
}

void ParkingLot::reset_after_fork() noexcept {
  madvise(buckets_, kBuckets * sizeof(Bucket), MADV_DONTNEED);
}

}  // namespace weft::engine
