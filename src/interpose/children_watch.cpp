#include <atomic>
#include <csignal>

#include "fiber/futex_lock.hpp"
#include "fiber/native_thread.hpp"
#include "fiber/parking_lot.hpp"
#include "fiber/sys.hpp"
#include "interpose/children.hpp"
#include "interpose/files.hpp"

namespace weft::engine::interpose {

namespace {

constexpr int kWatchers = 64;
constinit FutexLock g_lock;   // guards all watchers
constinit int g_process = 0;  // whose they are
// Rounds to try again where there is neither a thread nor a place to be had.
constexpr Nanos kPause = 20 * kMillisecond;

}  // namespace

// A place that is used again is told by `changes`, which only grows.
struct ChildWatch::Watcher {
  ChildSelection who{};
  bool running = false;
  bool to_join = false;
  pthread_t thread{};
  std::atomic<uint32_t> changes{0};
};

constinit ChildWatch::Watcher ChildWatch::watchers_[kWatchers];

void* ChildWatch::watch(void* self) noexcept {
  Watcher& watcher = *static_cast<Watcher*>(self);
  siginfo_t info;
  long result;
  do
    result = sys::call(SYS_waitid, watcher.who.type, watcher.who.id, &info, watcher.who.options | WNOWAIT,
                       nullptr);
  while (result == -EINTR);
  g_lock.lock();
  watcher.running = false;
  watcher.changes.fetch_add(1, std::memory_order_release);
  g_lock.unlock();
  ParkingLot::instance().wake_all(&watcher.changes);
  return nullptr;
}

// REQUIRES: g_lock held; the watcher does not run: it has let go of the lock for the last time, and is about
// to end.
void ChildWatch::join(Watcher& watcher) noexcept {
  if (watcher.to_join) join_native_thread(watcher.thread);
  watcher.to_join = false;
}

void ChildWatch::join_ended() noexcept {
  Guard guard(g_lock);
  for (Watcher& watcher : watchers_)
    if (!watcher.running) join(watcher);
}

// REQUIRES: g_lock held.
ChildWatch::Watcher* ChildWatch::find_or_start(const ChildSelection& who) noexcept {
  const int process = static_cast<int>(sys::call(SYS_getpid));
  if (process != g_process) {
    // A fork child: the threads are the parent's.
    g_process = process;
    for (Watcher& watcher : watchers_) watcher.running = watcher.to_join = false;
  }
  Watcher* free = nullptr;
  for (Watcher& watcher : watchers_) {
    if (watcher.running && watcher.who == who) return &watcher;
    if (!watcher.running && !free) free = &watcher;
  }
  if (!free) return nullptr;
  join(*free);
  free->who = who;
  if (start_native_thread(free->thread, "weft-children", &ChildWatch::watch, free) != 0) return nullptr;
  free->running = free->to_join = true;
  return free;
}

ChildWatch::ChildWatch(const ChildSelection& who) noexcept {
  Guard guard(g_lock);
  watcher_ = find_or_start(who);
  if (watcher_) seen_ = watcher_->changes.load(std::memory_order_relaxed);
}

int ChildWatch::wait(const char* call) noexcept {
  constexpr uint8_t kFlags = kCancellable | kInterruptible | kRestartable;
  const WaitReason reason{WaitKind::kChild, call};
  if (!watcher_) {
    Fiber& self = Carrier::current()->running();
    self.begin_wait(kFlags, reason);
    const Wake wake = Carrier::current()->park(later(monotonic_now(), kPause));
    return wake == Wake::kTimeout ? 0 : error_of(wake);
  }
  return error_of(ParkingLot::instance().park(&watcher_->changes, kNever, kFlags, reason, [&]() noexcept {
    return watcher_->changes.load(std::memory_order_acquire) == seen_;
  }));
}

}  // namespace weft::engine::interpose
