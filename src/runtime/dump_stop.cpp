#include "runtime/dump_stop.hpp"

#include <ucontext.h>

#include "fiber/context.hpp"
#include "fiber/sys.hpp"

namespace weft::engine::dump {

namespace {

// While it runs, two stacks are mixed.
bool in_switch(uintptr_t address) noexcept {
  constexpr uintptr_t kSize = 192;
  return address - reinterpret_cast<uintptr_t>(&weft_switch_stack) < kSize;
}

}  // namespace

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

bool CarrierStop::wait_until_standing() noexcept {
  wait_for_change(kWanted, later(monotonic_now(), kAnswerTime));
  wait_for_change(kArriving, kNever);
  return state_.load(std::memory_order_acquire) == kStanding;
}

bool CarrierStop::stop(Carrier& carrier) noexcept {
  state_.store(kWanted, std::memory_order_release);
  // One of former times may still be on its way to the carrier. It then finds what was just stored.
  if (!posted_.exchange(true, std::memory_order_acq_rel)) {
    node_.run = &CarrierStop::meet;
    node_.owner = this;
    carrier.post(node_);
  }
  // The carrier looks into its inbox before each switch, so after this time it is either standing or still
  // busy with the fiber that was running at the post, or with the one it was just switching to.
  return wait_until_standing();
}

bool CarrierStop::interrupt(Carrier& carrier) noexcept {
#ifdef WEFT_TSAN
  // TSan has handlers run later than the signal came, with the registers of then.
  return false;
#endif
  struct sigaction former {
  }, ours{}, present{};
  if (sigaction(kSignal, nullptr, &former) != 0) return false;
  if ((former.sa_flags & SA_SIGINFO) || (former.sa_handler != SIG_DFL && former.sa_handler != SIG_IGN))
    return false;
  ours.sa_sigaction = [](int number, siginfo_t* info, void* context) { handle(number, info, context); };
  ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  sigfillset(&ours.sa_mask);
  sigaction(kSignal, &ours, nullptr);
  sys::call(SYS_tgkill, sys::call(SYS_getpid), carrier.thread_id(), kSignal);
  const bool stands = wait_until_standing();
  // A signal that is still pending is forgotten by this. What the program has installed meanwhile stays.
  if (sigaction(kSignal, nullptr, &present) == 0 && (present.sa_flags & SA_SIGINFO) &&
      present.sa_sigaction == ours.sa_sigaction)
    sigaction(kSignal, &former, nullptr);
  return stands;
}

void CarrierStop::release() noexcept {
  if (change(kWanted, kIdle)) return;
  wait_for_change(kArriving, kNever);
  // Until the carrier has left stand(), the state is its own.
  if (change(kStanding, kReleased))
    wait_for_change(kReleased, kNever);
  else
    state_.store(kIdle, std::memory_order_release);  // it was gone
}

void CarrierStop::reset_after_fork() noexcept {
  state_.store(kIdle, std::memory_order_relaxed);
  posted_.store(false, std::memory_order_relaxed);
}

// On the carrier.
void CarrierStop::stand(const StackContext& context) noexcept {
  if (!change(kWanted, kArriving)) return;
  context_ = context;
  change(kArriving, kStanding);
  wait_for_change(kStanding, later(monotonic_now(), kPatience));
  if (!change(kStanding, kGone)) change(kReleased, kIdle);
}

// On the carrier, between two switches.
void CarrierStop::meet(InboxNode& node, Carrier&) noexcept {
  CarrierStop& self = *static_cast<CarrierStop*>(node.owner);
  self.posted_.exchange(false, std::memory_order_acq_rel);
  ucontext_t here;
  getcontext(&here);
  StackContext context = StackContext::of_signal(&here);
  context.interrupted = false;
  self.stand(context);
}

// On the carrier, wherever it was.
void CarrierStop::handle(int, siginfo_t*, void* context) noexcept {
  const StackContext interrupted = StackContext::of_signal(context);
  if (!in_switch(interrupted.rip)) instance().stand(interrupted);
}

}  // namespace weft::engine::dump
