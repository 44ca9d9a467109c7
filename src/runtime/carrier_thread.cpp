#include "runtime/carrier_thread.hpp"

#include <cerrno>

#include "fiber/native_thread.hpp"
#include "fiber/parking_lot.hpp"

namespace weft::engine {

// Works on the thread itself, a fiber's as well as one without a carrier.
void CarrierThread::await_change(Phase from) noexcept {
  while (phase_.load(std::memory_order_acquire) == from)
    ParkingLot::instance().park(&phase_, kNever, kUninterruptible, {WaitKind::kOther, "a carrier's thread"},
                                [&]() noexcept { return phase_.load(std::memory_order_acquire) == from; });
}

void CarrierThread::enter(Phase phase) noexcept {
  phase_.store(phase, std::memory_order_release);
  ParkingLot::instance().wake_all(&phase_);
}

int CarrierThread::attach() noexcept {
  if (poller_)
    poller_->adopt_thread();
  else if (!(poller_ = Poller::create(backend_)))
    return errno;
  carrier_.set_events(*poller_);
  carrier_.take_no_signals();
  if (!carrier_.attach()) return errno;
  if (!monitor_->watch(carrier_)) {
    const int error = errno;
    carrier_.detach();
    return error;
  }
  if (crew_->join(carrier_)) return 0;
  monitor_->unwatch(carrier_);
  carrier_.detach();
  return EAGAIN;
}

void* CarrierThread::main(void* argument) noexcept {
  auto& self = *static_cast<CarrierThread*>(argument);
  self.error_ = self.attach();
  if (self.error_) {
    self.enter(kFailed);
    return nullptr;
  }
  self.enter(kRunning);
  self.await_change(kRunning);
  self.crew_->leave(self.carrier_);
  self.carrier_.wait_until_alone();
  self.monitor_->unwatch(self.carrier_);
  self.carrier_.detach();
  self.enter(kEnded);
  return nullptr;
}

bool CarrierThread::start(Backend backend, Crew& crew, Monitor& monitor) noexcept {
  backend_ = backend;
  crew_ = &crew;
  monitor_ = &monitor;
  phase_.store(kStarting, std::memory_order_relaxed);
  if (const int error = start_native_thread(thread_, "weft-carrier", &main, this)) {
    errno = error;
    return false;
  }
  await_change(kStarting);
  if (phase_.load(std::memory_order_acquire) == kFailed) {
    join_native_thread(thread_);
    errno = error_;
    return false;
  }
  running_ = true;
  return true;
}

void CarrierThread::stop() noexcept {
  if (!running_) return;
  running_ = false;
  enter(kStopping);
  await_change(kStopping);
  join_native_thread(thread_);
}

}  // namespace weft::engine
