// Runtime: the engine of one process, put together.
#pragma once

#include <atomic>
#include <memory>

#include "fiber/carrier.hpp"
#include "fiber/crew.hpp"
#include "fiber/monitor.hpp"
#include "poll/offload_pool.hpp"
#include "poll/poller.hpp"
#include "runtime/carrier_thread.hpp"
#include "runtime/settings.hpp"

namespace weft::engine {

/// Carriers with their pollers, the monitor, and what has been counted. One for each process, never
/// destroyed: fibers, native threads and exit handlers may use it until the very end.
class Runtime {
 public:
  /// The process's runtime if start() has succeeded, else null. Any thread.
  static Runtime* get() noexcept { return instance_.load(std::memory_order_acquire); }

  /// Makes the calling thread the carrier, its present stack the main fiber, and starts the monitor.
  /// Thread-safe; the first call wins, later ones return its runtime. Null with errno set when it cannot be
  /// had; nothing is left behind.
  static Runtime* start(const Settings& settings) noexcept;

  /// The first carrier: on the thread that called start(), or in a fork child the one that forked.
  Carrier& carrier() noexcept { return *first_; }
  Poller& poller() noexcept { return static_cast<Poller&>(first_->events()); }
  Monitor& monitor() noexcept { return monitor_; }
  const Settings& settings() const noexcept { return settings_; }

  /// Where fibers that any carrier may start are handed in. All carriers are of it.
  Crew& crew() noexcept { return crew_; }
  /// Starts, or stops, OS threads that run fibers beside the first, until there are `count` carriers. False
  /// with errno set, where one cannot be started: those that could are there. Parks the fiber that calls it
  /// until the fibers of a carrier that is to go have ended. REQUIRES: 1 <= count <= Crew::kMax; not called
  /// by two at a time.
  bool set_carriers(int count) noexcept;
  int carriers() const noexcept { return carriers_.load(std::memory_order_acquire); }
  /// Hands in `fiber`, new, to be started by any carrier. Any thread.
  void start(Fiber& fiber) noexcept {
    if (carriers() == 1) [[likely]]
      first_->start(fiber);
    else
      crew_.start(fiber);
  }
  /// The carrier of that number, from 0. REQUIRES: index < carriers().
  Carrier& carrier(int index) noexcept { return index == 0 ? *first_ : others_[index - 1]->carrier(); }

  /// A fiber that stands for a thread, on the first carrier; not started. `stack_size` 0: the setting's. Null
  /// with errno set.
  Fiber* create_fiber(Fiber::Entry entry, void* argument, size_t stack_size) noexcept;

  /// In a fork child: rebuilds everything for the one fiber that lives on. Called by libc's fork.
  static void after_fork_in_child() noexcept;

 private:
  explicit Runtime(const Settings& settings) noexcept;

  static std::atomic<Runtime*> instance_;

  Settings settings_;
  MonotonicClock clock_;
  std::unique_ptr<Poller> poller_;
  FutexEventSource no_events_;
  Carrier carrier_;
  Carrier* first_ = &carrier_;
  Monitor monitor_;
  Crew crew_;
  CarrierThread* others_[Crew::kMax - 1] = {};  // made once, kept
  std::atomic<int> carriers_{1};
};

}  // namespace weft::engine
