#include "runtime/runtime.hpp"

#include <pthread.h>

#include <cerrno>
#include <new>

#include "fiber/futex_lock.hpp"
#include "fiber/parking_lot.hpp"

namespace weft::engine {

constinit std::atomic<Runtime*> Runtime::instance_{nullptr};

Runtime::Runtime(const Settings& settings) noexcept : settings_(settings), carrier_(clock_, no_events_) {}

Runtime* Runtime::start(const Settings& settings) noexcept {
  static constinit FutexLock lock;
  alignas(Runtime) static std::byte storage[sizeof(Runtime)];
  Guard guard(lock);
  if (Runtime* started = get()) return started;
  auto* runtime = new (storage) Runtime(settings);
  runtime->poller_ = Poller::create(settings.backend);
  bool attached = false;
  if (runtime->poller_) {
    runtime->carrier_.set_events(*runtime->poller_);
    attached = runtime->carrier_.attach();
  }
  if (!attached || !runtime->monitor_.watch(runtime->carrier_)) {
    const int error = errno;
    if (attached) runtime->carrier_.detach();
    runtime->~Runtime();
    errno = error;
    return nullptr;
  }
  runtime->crew_.join(runtime->carrier_);
  static const int registered = pthread_atfork(nullptr, nullptr, &Runtime::after_fork_in_child);
  static_cast<void>(registered);
  instance_.store(runtime, std::memory_order_release);
  return runtime;
}

bool Runtime::set_carriers(int count) noexcept {
  int present = carriers();
  while (present < count) {
    CarrierThread*& other = others_[present - 1];
    if (!other) other = new (std::nothrow) CarrierThread(clock_);
    if (!other) errno = ENOMEM;
    if (!other || !other->start(settings_.backend, crew_, monitor_)) return false;
    carriers_.store(++present, std::memory_order_release);
  }
  while (present > count) {
    carriers_.store(--present, std::memory_order_release);
    others_[present - 1]->stop();
  }
  return true;
}

Fiber* Runtime::create_fiber(Fiber::Entry entry, void* argument, size_t stack_size) noexcept {
  return Fiber::create(carrier(), entry, argument, stack_size ? stack_size : settings_.stack_size);
}

void Runtime::after_fork_in_child() noexcept {
  FutexLock::forked();
  Runtime* runtime = get();
  if (!runtime) return;
  ParkingLot::instance().reset_after_fork();
  StackPool::instance().reset_after_fork();
  OffloadPool::instance().reset_after_fork();
  for (CarrierThread*& other : runtime->others_) other = nullptr;
  runtime->carriers_.store(1, std::memory_order_relaxed);
  runtime->crew_.reset_after_fork(Carrier::current());
  if (Carrier* carrier = Carrier::current()) {
    runtime->first_ = carrier;
    carrier->reset_after_fork();
    Fiber::reset_after_fork(carrier->running());
    runtime->monitor_.reset_after_fork();
  } else {
    // A native thread forked: no fiber survives, and the child starts a runtime of its own when it needs one.
    Fiber::reset_after_fork();
    instance_.store(nullptr, std::memory_order_release);
  }
}

}  // namespace weft::engine
