// CarrierThread: an OS thread of the engine's own that runs fibers.
#pragma once

#include <pthread.h>

#include <memory>

#include "fiber/carrier.hpp"
#include "fiber/crew.hpp"
#include "fiber/monitor.hpp"
#include "poll/poller.hpp"

namespace weft::engine {

/// Runs fibers from start() to stop(), and may be started again. Never destroyed: what woke its last fiber
/// may still be at its carrier.
class CarrierThread {
 public:
  explicit CarrierThread(Clock& clock) noexcept : carrier_(clock, no_events_) {}
  CarrierThread(const CarrierThread&) = delete;
  CarrierThread& operator=(const CarrierThread&) = delete;

  /// Returns when the thread is of the crew and watched by the monitor. False with errno set; nothing is left
  /// behind then. REQUIRES: it does not run.
  bool start(Backend backend, Crew& crew, Monitor& monitor) noexcept;

  /// Takes the thread out of the crew, and returns when each fiber that started on it has ended, and the
  /// thread. Parks the fiber that calls it. Does nothing if it does not run.
  void stop() noexcept;

  bool running() const noexcept { return running_; }
  Carrier& carrier() noexcept { return carrier_; }

 private:
  enum Phase : uint32_t { kStarting, kRunning, kFailed, kStopping, kEnded };

  static void* main(void* self) noexcept;
  int attach() noexcept;
  void await_change(Phase from) noexcept;
  void enter(Phase phase) noexcept;

  FutexEventSource no_events_;
  std::unique_ptr<Poller> poller_;
  Carrier carrier_;
  Crew* crew_ = nullptr;
  Monitor* monitor_ = nullptr;
  Backend backend_ = Backend::kAuto;
  std::atomic<uint32_t> phase_{kEnded};
  int error_ = 0;
  bool running_ = false;
  pthread_t thread_{};
};

}  // namespace weft::engine
