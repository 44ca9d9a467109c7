#include "fiber/monitor.hpp"

#include <poll.h>
#include <sys/eventfd.h>

#include <cerrno>

#include "fiber/carrier.hpp"
#include "fiber/native_thread.hpp"
#include "fiber/private_fd.hpp"
#include "fiber/sys.hpp"

namespace weft::engine {

Monitor::~Monitor() {
  stop();
}

bool Monitor::watch(Carrier& carrier) noexcept {
  bool registered = false;
  for (Watched& watched : watched_) {
    Guard guard(watched.lock);
    if (watched.carrier) continue;
    watched.carrier = &carrier;
    registered = true;
    break;
  }
  if (!registered) {
    errno = EAGAIN;
    return false;
  }
  carrier.set_monitor(this);
  Guard guard(lock_);
  if (started_) {
    carrier_woke();
    return true;
  }
  if (start()) return true;
  unwatch(carrier);
  return false;
}

bool Monitor::start() noexcept {
  const int bell = make_private_fd(static_cast<int>(sys::call(SYS_eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC)));
  if (bell < 0) {
    errno = -bell;
    return false;
  }
  bell_.store(bell);
  stopping_.store(false);
  if (const int error = start_native_thread(thread_, "weft-monitor", &Monitor::run, this)) {
    close_private_fd(bell_.exchange(-1));
    errno = error;
    return false;
  }
  started_ = true;
  return true;
}

void Monitor::unwatch(Carrier& carrier) noexcept {
  carrier.set_monitor(nullptr);
  for (Watched& watched : watched_) {
    Guard guard(watched.lock);
    if (watched.carrier == &carrier) watched.carrier = nullptr;
  }
}

void Monitor::set_service(MonitorService* service) noexcept {
  service_.store(service, std::memory_order_release);
  ring();
}

void Monitor::stop() noexcept {
  Guard guard(lock_);
  if (!started_) return;
  stopping_.store(true);
  ring();
  join_native_thread(thread_);
  started_ = false;
  close_private_fd(bell_.exchange(-1));
}

void Monitor::reset_after_fork() noexcept {
  Carrier* watched_here = nullptr;
  for (Watched& watched : watched_) {
    if (watched.carrier && watched.carrier == Carrier::current()) watched_here = watched.carrier;
    watched.carrier = nullptr;
  }
  if (!started_) return;
  started_ = false;
  close_private_fd(bell_.exchange(-1));
  asleep_.store(false);
  if (watched_here) watch(*watched_here);
}

void Monitor::ring() noexcept {
  const uint64_t one = 1;
  if (const int bell = bell_.load(std::memory_order_acquire); bell >= 0)
    sys::call(SYS_write, bell, &one, sizeof one);
}

void* Monitor::run(void* self) noexcept {
  static_cast<Monitor*>(self)->loop();
  return nullptr;
}

void Monitor::loop() noexcept {
  int idle_ticks = 0;
  while (!stopping_.load(std::memory_order_acquire)) {
    bool busy = false;
    for (Watched& watched : watched_) busy |= look(watched);
    idle_ticks = busy ? 0 : idle_ticks + 1;
    if (idle_ticks < kIdleTicks) {
      wait(kTick);
      continue;
    }
    // Either a carrier that wakes now sees that we sleep, or we see that it woke.
    asleep_.store(true, std::memory_order_seq_cst);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (all_idle()) wait(kNever);
    asleep_.store(false, std::memory_order_relaxed);
    idle_ticks = 0;
  }
}

bool Monitor::all_idle() noexcept {
  for (Watched& watched : watched_) {
    Guard guard(watched.lock);
    if (watched.carrier && !watched.carrier->idle()) return false;
  }
  return true;
}

// True if the carrier was found busy.
bool Monitor::look(Watched& watched) noexcept {
  Guard guard(watched.lock);
  Carrier* carrier = watched.carrier;
  if (!carrier || carrier->idle()) return false;
  const uint64_t switches = carrier->switch_count();
  const bool stuck = switches == watched.last_switches;
  watched.last_switches = switches;
  if (!stuck) {
    watched.reported = false;
    carrier->ask_for_poll();
    return true;
  }
  if (!carrier->has_work(carrier->clock().now())) return true;
  carrier->ask_for_poll();
  Preemptor* preemptor = preemptor_.load(std::memory_order_acquire);
  if (preemptor && preemptor->preempt(*carrier)) {
    preemptions_.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  stalls_.fetch_add(1, std::memory_order_relaxed);
  if (const auto reporter = stall_reporter_.load(std::memory_order_acquire); reporter && !watched.reported)
    reporter(*carrier);
  watched.reported = true;
  return true;
}

void Monitor::wait(Nanos timeout) noexcept {
  pollfd descriptors[2] = {{bell_.load(std::memory_order_relaxed), POLLIN, 0}, {-1, POLLIN, 0}};
  MonitorService* service = service_.load(std::memory_order_acquire);
  if (service) descriptors[1].fd = service->descriptor();
  const sys::Timespec limit{timeout / kSecond, timeout % kSecond};
  const long ready = sys::call(SYS_ppoll, descriptors, 2, timeout == kNever ? nullptr : &limit, nullptr, 0);
  if (ready <= 0) return;
  if (descriptors[0].revents) {
    uint64_t rings;
    sys::call(SYS_read, descriptors[0].fd, &rings, sizeof rings);
  }
  if (descriptors[1].revents) service->serve();
}

}  // namespace weft::engine
