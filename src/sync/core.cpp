#include "weft/detail/core.hpp"

#include "sync/wake.hpp"
#include "weft/fiber.hpp"

namespace weft::detail {

Nanos now() noexcept {
  return engine::monotonic_now();
}

void SpinLock::wait() noexcept {
  while (locked_.load(std::memory_order_relaxed)) engine::sys::call(SYS_sched_yield);
}

Outcome park(const void* address, Nanos deadline, uint8_t flags, const char* call,
             const Condition& condition) noexcept {
  if (flags & kCancellable) {
    if (const Outcome revoked = revocation(); revoked != Outcome::kReady) return revoked;
    flags |= cancellable_flags();
  }
  return outcome_of(engine::ParkingLot::instance().park(
      address, deadline, flags, {engine::WaitKind::kLock, call, address},
      [&]() noexcept { return condition.holds(condition.self); },
      [&]() noexcept {
        if (condition.before) condition.before(condition.self);
      }));
}

int wake(const void* address, int count) noexcept {
  return engine::ParkingLot::instance().wake(address, count);
}

Outcome revocation() noexcept {
  engine::Fiber* fiber = switchable_fiber();
  return fiber ? outcome_of(fiber->revocation()) : Outcome::kReady;
}

Outcome sleep_until(Nanos deadline) noexcept {
  engine::Fiber* fiber = switchable_fiber();
  if (!fiber) {
    while (now() < deadline) {
      std::atomic<uint32_t> never{0};
      engine::sys::futex_wait(&never, 0, deadline);
    }
    return Outcome::kReady;
  }
  if (const Outcome revoked = revocation(); revoked != Outcome::kReady) return revoked;
  engine::Carrier& carrier = fiber->carrier();
  if (deadline != kNever && deadline <= carrier.now()) {
    carrier.yield();
    return revocation();
  }
  const Outcome outcome = outcome_of(carrier.sleep_until(deadline, cancellable_flags(), "sleep"));
  return outcome == Outcome::kTimeout ? Outcome::kReady : outcome;
}

void yield() noexcept {
  if (engine::Fiber* fiber = switchable_fiber())
    fiber->carrier().yield();
  else
    engine::sys::call(SYS_sched_yield);
}

bool in_fiber() noexcept {
  return engine::Carrier::running_fiber() != nullptr;
}

}  // namespace weft::detail
