#include "sync/wake.hpp"
#include "weft/timeout.hpp"

namespace weft::detail {

Nanos push_expiry(Nanos deadline) noexcept {
  ensure_engine();
  engine::Fiber* fiber = engine::Carrier::running_fiber();
  if (!fiber) return kNever;
  return deadline < fiber->expiry() ? fiber->set_expiry(deadline) : fiber->expiry();
}

void pop_expiry(Nanos former) noexcept {
  if (engine::Fiber* fiber = engine::Carrier::running_fiber()) fiber->set_expiry(former);
}

void push_shield(Nanos* former) noexcept {
  ensure_engine();
  *former = kNever;
  engine::Fiber* fiber = engine::Carrier::running_fiber();
  if (!fiber) return;
  ++fiber->shields;
  *former = fiber->set_expiry(kNever);
}

void pop_shield(Nanos former) noexcept {
  engine::Fiber* fiber = engine::Carrier::running_fiber();
  if (!fiber) return;
  --fiber->shields;
  fiber->set_expiry(former);
}

}  // namespace weft::detail
