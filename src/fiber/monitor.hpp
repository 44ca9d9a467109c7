// Monitor: the thread that watches the carriers.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>

#include "fiber/clock.hpp"
#include "fiber/futex_lock.hpp"

namespace weft::engine {

class Carrier;

/// How a running fiber is made to give way. Implemented by host/ for interpreters.
class Preemptor {
 public:
  virtual ~Preemptor() = default;
  /// Asks the fiber that runs on `carrier` to give way, and returns when it has, or when it need not or
  /// cannot. Called on the monitor's thread; may block. False: this carrier runs nothing that can be
  /// preempted.
  virtual bool preempt(Carrier& carrier) noexcept = 0;
};

/// Something that the monitor's thread serves beside watching: requests that arrive on a descriptor.
class MonitorService {
 public:
  virtual ~MonitorService() = default;
  /// The descriptor to watch for input.
  virtual int descriptor() const noexcept = 0;
  /// Called on the monitor's thread when it is readable.
  virtual void serve() noexcept = 0;
};

/// One OS thread that looks every `kTick` whether each carrier still switches. Where one does not although
/// other fibers could run, it has the running fiber preempted; where that is impossible it counts the stall,
/// and reports it once. It also makes busy carriers poll at least once a tick. When all carriers have been
/// idle for a while it sleeps until one has been awake for `kPatience`: a process that has little to do now
/// and then is not woken by it. Unless said otherwise, functions may be called on any thread.
class Monitor {
 public:
  static constexpr Nanos kTick = 5 * kMillisecond, kPatience = kMillisecond;

  Monitor() noexcept = default;
  ~Monitor();
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  /// Watches `carrier` from now on; starts the thread when there is none. False with errno set if it cannot
  /// be started.
  bool watch(Carrier& carrier) noexcept;
  /// Returns when the monitor no longer looks at `carrier`. REQUIRES: the caller holds nothing that
  /// Preemptor::preempt() may wait for.
  void unwatch(Carrier& carrier) noexcept;

  void set_preemptor(Preemptor* preemptor) noexcept {
    preemptor_.store(preemptor, std::memory_order_release);
  }
  /// Called on the monitor's thread when it finds a carrier stalled: once, until that carrier switches again.
  void set_stall_reporter(void (*reporter)(Carrier&) noexcept) noexcept {
    stall_reporter_.store(reporter, std::memory_order_release);
  }
  /// One service at most, which must outlive the monitor's thread. Takes effect at the monitor's next
  /// wake-up.
  void set_service(MonitorService* service) noexcept;

  /// Called by a carrier that has events again.
  void carrier_woke() noexcept {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (asleep_.load(std::memory_order_relaxed)) [[unlikely]]
      set_alarm();
  }
  /// Called by a carrier that is about to sleep; `now`: about.
  void carrier_sleeps(Nanos now) noexcept {
    if (alarm_set_.load(std::memory_order_relaxed)) [[unlikely]]
      revoke_alarm(now);
  }

  /// Ends the thread. Idempotent. REQUIRES: as for unwatch(), and no call by a carrier on another thread.
  void stop() noexcept;

  /// In a fork child, where the thread is gone: starts it anew for the calling thread's carrier, if that was
  /// watched.
  void reset_after_fork() noexcept;

  uint64_t preemptions() const noexcept { return preemptions_.load(std::memory_order_relaxed); }
  /// Times that a carrier was found not to switch for `kTick` while others could run, and could not be
  /// preempted.
  uint64_t stalls() const noexcept { return stalls_.load(std::memory_order_relaxed); }

 private:
  struct Watched {
    FutexLock lock;  // held while the monitor looks at the carrier; guards all below
    Carrier* carrier = nullptr;
    uint64_t last_switches = 0;
    bool reported = false;
  };
  static constexpr int kMaxCarriers = 64, kIdleTicks = 3;

  static void* run(void* self) noexcept;
  void loop() noexcept;
  bool look(Watched& watched) noexcept;
  void wait(Nanos timeout) noexcept;
  void ring() noexcept;
  void set_alarm() noexcept;
  void revoke_alarm(Nanos now) noexcept;
  bool all_idle() noexcept;
  void close_descriptors() noexcept;
  bool start() noexcept;

  FutexLock lock_;  // guards starting and stopping
  Watched watched_[kMaxCarriers];
  std::atomic<Preemptor*> preemptor_{nullptr};
  std::atomic<MonitorService*> service_{nullptr};
  std::atomic<void (*)(Carrier&) noexcept> stall_reporter_{nullptr};
  std::atomic<bool> asleep_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> preemptions_{0}, stalls_{0};
  std::atomic<int> bell_{-1};   // an eventfd: look at once
  std::atomic<int> alarm_{-1};  // a timerfd: look when it has run out
  // Set before the alarm, cleared after it has been heard or revoked. While it is set and the monitor sleeps,
  // the alarm is on its way.
  std::atomic<bool> alarm_set_{false};
  std::atomic<int> watched_count_{0};
  // How often the only carrier has revoked it, since when.
  Nanos revoking_since_ = 0;
  int revoked_ = 0;
  bool started_ = false;
  pthread_t thread_{};
};

}  // namespace weft::engine
