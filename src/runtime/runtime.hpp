// Runtime: the engine of one process, put together.
#pragma once

#include <atomic>
#include <memory>

#include "fiber/carrier.hpp"
#include "fiber/monitor.hpp"
#include "poll/offload_pool.hpp"
#include "poll/poller.hpp"
#include "runtime/settings.hpp"

namespace weft::engine {

/// A carrier with its poller, the monitor, and what has been counted. One for each process, never destroyed:
/// fibers, native threads and exit handlers may use it until the very end.
class Runtime {
 public:
  /// The process's runtime if start() has succeeded, else null. Any thread.
  static Runtime* get() noexcept { return instance_.load(std::memory_order_acquire); }

  /// Makes the calling thread the carrier, its present stack the main fiber, and starts the monitor.
  /// Thread-safe; the first call wins, later ones return its runtime. Null with errno set when it cannot be
  /// had; nothing is left behind.
  static Runtime* start(const Settings& settings) noexcept;

  Carrier& carrier() noexcept { return carrier_; }
  Poller& poller() noexcept { return *poller_; }
  Monitor& monitor() noexcept { return monitor_; }
  const Settings& settings() const noexcept { return settings_; }

  /// A fiber that stands for a thread, on the carrier; not started. `stack_size` 0: the setting's. Null with
  /// errno set.
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
  Monitor monitor_;
};

}  // namespace weft::engine
