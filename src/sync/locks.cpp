// Slow paths of the locks, and of what counts. Each keeps its state in one word and waits in the parking lot;
// the condition that is asked for with the queue locked makes sure that no wake-up falls in between.
#include "fiber/assert.hpp"
#include "weft/condition_variable.hpp"
#include "weft/event.hpp"
#include "weft/mutex.hpp"
#include "weft/semaphore.hpp"
#include "weft/shared_mutex.hpp"

namespace weft {

using namespace detail;

// U. Drepper, "Futexes Are Tricky", 2011, section 5 ("mutex2"), with the parking lot in place of the futex.
bool Mutex::lock_slowly(Nanos deadline) noexcept {
  uint8_t flags = kUncancellable;
  while (state_.exchange(kWaited, std::memory_order_acquire) != kFree) {
    const Condition taken{
        [](void* self) noexcept { return static_cast<Mutex*>(self)->state_.load() == kWaited; }, this};
    if (park(&state_, deadline, flags, "Mutex::lock", taken) == Outcome::kTimeout)
      // kWaited may be a lie now, which costs the next unlock() a look.
      return state_.exchange(kWaited, std::memory_order_acquire) == kFree;
    flags = kAhead;
  }
  return true;
}

void Mutex::unlock_slowly(uint32_t former) noexcept {
  WEFT_ASSERT(former == kWaited && "weft::Mutex::unlock: it was not locked");
  wake(&state_, 1);
}

Outcome ConditionVariable::wait_until_nanos(Mutex& mutex, Nanos deadline) noexcept {
  struct Waiting {
    Mutex& mutex;
    bool unlocked = false;
  } waiting{mutex};
  // Nobody asks whether it holds but once, before the mutex is let go.
  const Condition queued{[](void*) noexcept { return true; }, &waiting,
                         [](void* self) noexcept {
                           auto& w = *static_cast<Waiting*>(self);
                           w.unlocked = true;
                           w.mutex.unlock();
                         }};
  const Outcome outcome = park(&notified_, deadline, kCancellable, "ConditionVariable::wait", queued);
  if (waiting.unlocked) mutex.lock();
  return outcome;
}

void ConditionVariable::notify(int count) noexcept {
  wake(&notified_, count);
}

Outcome Semaphore::acquire_slowly(Nanos deadline) noexcept {
  uint8_t flags = kCancellable;
  for (;;) {
    const Condition none{[](void* self) noexcept { return static_cast<Semaphore*>(self)->available() == 0; },
                         this};
    const Outcome outcome = park(&permits_, deadline, flags, "Semaphore::acquire", none);
    if (try_acquire()) return Outcome::kReady;
    if (outcome != Outcome::kReady) return outcome;
    flags = kCancellable | kAhead;
  }
}

void Semaphore::release(uint32_t count) noexcept {
  permits_.fetch_add(count, std::memory_order_release);
  wake(&permits_, count > INT32_MAX ? INT32_MAX : static_cast<int>(count));
}

void Event::set() noexcept {
  uint32_t seen = state_.load(std::memory_order_relaxed);
  do {
    if (seen & kSet) return;
  } while (!state_.compare_exchange_weak(seen, (seen + kTime) | kSet, std::memory_order_acq_rel,
                                         std::memory_order_relaxed));
  wake(&state_);
}

Outcome Event::wait_slowly(Nanos deadline) noexcept {
  // That it was set is enough: it may have been reset since.
  const uint32_t before = state_.load(std::memory_order_acquire);
  return await(&state_, deadline, kCancellable, "Event::wait", [&]() noexcept {
    const uint32_t seen = state_.load(std::memory_order_acquire);
    return (seen & kSet) || seen != before;
  });
}

bool Latch::try_count_down(uint32_t by) noexcept {
  uint32_t seen = count_.load(std::memory_order_relaxed);
  do {
    if (seen < by) return false;
  } while (
      !count_.compare_exchange_weak(seen, seen - by, std::memory_order_acq_rel, std::memory_order_relaxed));
  if (seen == by) wake(&count_);
  return true;
}

Outcome Latch::wait_slowly(Nanos deadline) noexcept {
  return await(&count_, deadline, kCancellable, "Latch::wait", [this]() noexcept { return try_wait(); });
}

Outcome Barrier::arrive(bool* last) noexcept {
  constexpr uint64_t kRound = uint64_t{1} << 32;
  uint64_t seen = state_.load(std::memory_order_relaxed);
  uint64_t next;
  do {
    const bool complete = static_cast<uint32_t>(seen) + 1 == parties_;
    next = complete ? ((seen >> 32) + 1) << 32 : seen + 1;
  } while (!state_.compare_exchange_weak(seen, next, std::memory_order_acq_rel, std::memory_order_relaxed));
  const uint64_t round = seen / kRound;
  *last = next / kRound != round;
  if (*last) {
    wake(&state_);
    return Outcome::kReady;
  }
  const Outcome outcome = await(&state_, kNever, kCancellable, "Barrier::arrive_and_wait", [&]() noexcept {
    return state_.load(std::memory_order_acquire) / kRound != round;
  });
  if (outcome == Outcome::kReady) return outcome;
  // Not arrived after all, unless the round ended just now.
  seen = state_.load(std::memory_order_relaxed);
  do {
    if (seen / kRound != round) return Outcome::kReady;
  } while (
      !state_.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel, std::memory_order_relaxed));
  return outcome;
}

bool SharedMutex::lock_slowly(Nanos deadline) noexcept {
  state_.fetch_add(kWaitingWriter, std::memory_order_relaxed);
  const Condition busy{[](void* self) noexcept {
                         return (static_cast<SharedMutex*>(self)->state_.load() & (kWriter | kReaders)) != 0;
                       },
                       this};
  uint8_t flags = kUncancellable;
  bool locked;
  while (!(locked = try_lock())) {
    if (park(&writers_, deadline, flags, "SharedMutex::lock", busy) == Outcome::kTimeout) {
      locked = try_lock();
      break;
    }
    flags = kAhead;
  }
  const uint64_t former = state_.fetch_sub(kWaitingWriter, std::memory_order_acq_rel);
  if (!locked && (former & kWaitingWriters) == kWaitingWriter) wake(&state_);  // readers may come again
  return locked;
}

void SharedMutex::unlock() noexcept {
  const uint64_t former = state_.fetch_and(~kWriter, std::memory_order_acq_rel);
  WEFT_ASSERT((former & kWriter) && "weft::SharedMutex::unlock: it was not locked");
  if (wake(&writers_, 1) == 0) wake(&state_);
}

bool SharedMutex::lock_shared_slowly(Nanos deadline) noexcept {
  uint8_t flags = kUncancellable;
  while (!try_lock_shared()) {
    const Condition barred{
        [](void* self) noexcept {
          return (static_cast<SharedMutex*>(self)->state_.load() & (kWriter | kWaitingWriters)) != 0;
        },
        this};
    if (park(&state_, deadline, flags, "SharedMutex::lock_shared", barred) == Outcome::kTimeout)
      return try_lock_shared();
    flags = kAhead;
  }
  return true;
}

void SharedMutex::unlock_shared() noexcept {
  const uint64_t former = state_.fetch_sub(kReader, std::memory_order_acq_rel);
  WEFT_ASSERT((former & kReaders) && "weft::SharedMutex::unlock_shared: it was not locked");
  if ((former & kReaders) == kReader && wake(&writers_, 1) == 0) wake(&state_);
}

}  // namespace weft
