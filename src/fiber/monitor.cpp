#include "fiber/monitor.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <algorithm>
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
    watched_count_.fetch_add(1, std::memory_order_relaxed);
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
    ring();
    return true;
  }
  if (start()) return true;
  unwatch(carrier);
  return false;
}

bool Monitor::start() noexcept {
  const long bell = sys::call(SYS_eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC);
  bell_.store(make_private_fd(static_cast<int>(bell)));
  const long alarm = sys::call(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  alarm_.store(make_private_fd(static_cast<int>(alarm)));
  stopping_.store(false);
  alarm_set_.store(false);
  int error = std::max(-bell_.load(), -alarm_.load());
  if (error <= 0) error = start_native_thread(thread_, "weft-monitor", &Monitor::run, this);
  if (error > 0) {
    close_descriptors();
    errno = error;
    return false;
  }
  started_ = true;
  return true;
}

void Monitor::close_descriptors() noexcept {
  for (std::atomic<int>* descriptor : {&bell_, &alarm_})
    if (const int fd = descriptor->exchange(-1); fd >= 0) close_private_fd(fd);
}

void Monitor::unwatch(Carrier& carrier) noexcept {
  carrier.set_monitor(nullptr);
  for (Watched& watched : watched_) {
    Guard guard(watched.lock);
    if (watched.carrier != &carrier) continue;
    watched.carrier = nullptr;
    watched_count_.fetch_sub(1, std::memory_order_relaxed);
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
  close_descriptors();
}

void Monitor::reset_after_fork() noexcept {
  Carrier* watched_here = nullptr;
  for (Watched& watched : watched_) {
    if (watched.carrier && watched.carrier == Carrier::current()) watched_here = watched.carrier;
    watched.carrier = nullptr;
  }
  watched_count_.store(0);
  if (!started_) return;
  started_ = false;
  close_descriptors();
  asleep_.store(false);
  if (watched_here) watch(*watched_here);
}

void Monitor::ring() noexcept {
  const uint64_t one = 1;
  if (const int bell = bell_.load(std::memory_order_acquire); bell >= 0)
    sys::call(SYS_write, bell, &one, sizeof one);
}

// To ring would wake the monitor at once, on another processor, which costs more than most fibers do between
// two waits. It takes long work of theirs to make it look.
void Monitor::set_alarm() noexcept {
  if (alarm_set_.exchange(true, std::memory_order_seq_cst)) return;
  const itimerspec once{{0, 0}, {0, kPatience}};
  const int alarm = alarm_.load(std::memory_order_acquire);
  if (alarm >= 0) sys::call(SYS_timerfd_settime, alarm, 0, &once, nullptr);
}

// With several carriers another one may count on it. One that wakes so often that this would be worth a
// thought lets the monitor wake, once.
void Monitor::revoke_alarm(Nanos now) noexcept {
  constexpr int kMaxRevoked = 8;
  if (watched_count_.load(std::memory_order_relaxed) != 1) return;
  if (now - revoking_since_ >= kTick) {
    revoking_since_ = now;
    revoked_ = 0;
  }
  if (++revoked_ > kMaxRevoked) return;
  const itimerspec never{};
  const int alarm = alarm_.load(std::memory_order_acquire);
  if (alarm >= 0) sys::call(SYS_timerfd_settime, alarm, 0, &never, nullptr);
  alarm_set_.store(false, std::memory_order_seq_cst);
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
  pollfd descriptors[3] = {{bell_.load(std::memory_order_relaxed), POLLIN, 0},
                           {alarm_.load(std::memory_order_relaxed), POLLIN, 0},
                           {-1, POLLIN, 0}};
  MonitorService* service = service_.load(std::memory_order_acquire);
  if (service) descriptors[2].fd = service->descriptor();
  const sys::Timespec limit{timeout / kSecond, timeout % kSecond};
  const long ready = sys::call(SYS_ppoll, descriptors, 3, timeout == kNever ? nullptr : &limit, nullptr, 0);
  if (ready <= 0) return;
  for (int i = 0; i < 2; ++i) {
    uint64_t count;
    if (descriptors[i].revents) sys::call(SYS_read, descriptors[i].fd, &count, sizeof count);
  }
  if (descriptors[1].revents) alarm_set_.store(false, std::memory_order_seq_cst);
  if (descriptors[2].revents) service->serve();
}

}  // namespace weft::engine
