#include "runtime/dump_stop.hpp"

#include <ucontext.h>

#include "fiber/sys.hpp"

namespace weft::dump {

CarrierStop& CarrierStop::instance() noexcept {
  static constinit CarrierStop stop;
  return stop;
}

bool CarrierStop::change(uint32_t from, uint32_t to) noexcept {
  if (!state_.compare_exchange_strong(from, to, std::memory_order_acq_rel)) return false;
  sys::futex_wake(&state_, 1);
  return true;
}

void CarrierStop::wait_for_change(uint32_t seen, Nanos deadline) noexcept {
  while (state_.load(std::memory_order_acquire) == seen && monotonic_now() < deadline)
    sys::futex_wait(&state_, seen, deadline);
}

bool CarrierStop::stop(Carrier& carrier) noexcept {
  // One that was abandoned is still on its way to the carrier.
  if (!change(kAbandoned, kPosted)) {
    state_.store(kPosted, std::memory_order_relaxed);
    node_.run = &CarrierStop::meet;
    node_.owner = this;
    carrier.post(node_);
  }
  // The carrier looks into its inbox before each switch, so after this time it is either standing or still
  // busy with the fiber that was running at the post, or with the one it was just switching to.
  wait_for_change(kPosted, later(monotonic_now(), kAnswerTime));
  return state_.load(std::memory_order_acquire) == kStanding;
}

void CarrierStop::release() noexcept {
  if (change(kPosted, kAbandoned) || change(kStanding, kReleased)) {
    // Until the carrier has left meet(), the node and the state are its own.
    if (state_.load(std::memory_order_acquire) != kAbandoned) wait_for_change(kReleased, kNever);
    return;
  }
  state_.store(kIdle, std::memory_order_release);  // it was gone
}

// On the carrier, between two switches.
void CarrierStop::meet(InboxNode& node, Carrier&) noexcept {
  CarrierStop& self = *static_cast<CarrierStop*>(node.owner);
  ucontext_t here;
  getcontext(&here);
  self.context_ = StackContext::of_signal(&here);
  self.context_.interrupted = false;
  if (self.change(kAbandoned, kIdle) || !self.change(kPosted, kStanding)) return;
  self.wait_for_change(kStanding, later(monotonic_now(), kPatience));
  if (!self.change(kStanding, kGone)) self.change(kReleased, kIdle);
}

}  // namespace weft::dump
