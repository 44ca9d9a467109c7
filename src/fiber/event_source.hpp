// Where a carrier's fibers get their events from; implemented by the layer poll/.
#pragma once

#include <atomic>
#include <cstdint>

#include "fiber/clock.hpp"

namespace weft::engine {

class EventSource {
 public:
  virtual ~EventSource() = default;

  /// Collects what has happened and unparks the fibers concerned. Blocks for at most `timeout` (0: not at
  /// all; kNever: without end) when nothing has; also returns on a signal and after interrupt(). Never
  /// returns later than the kernel's timer granularity makes it. Called by the carrier's own thread only;
  /// must not switch.
  virtual void poll(Nanos timeout) noexcept = 0;

  /// Makes a poll() that blocks now, or the next one that would, return at once. Any thread;
  /// async-signal-safe.
  virtual void interrupt() noexcept = 0;

  /// A hint, from any thread: might poll(0) unpark a fiber? Asked by the monitor of a carrier that has not
  /// polled for a while. May make a system call; must not block.
  virtual bool has_events() noexcept = 0;

  /// In a fork child, on the surviving thread: starts afresh, without touching what is shared with the
  /// parent.
  virtual void reset_after_fork() noexcept = 0;
};

/// The event source of a carrier that waits for nothing but timers and other threads.
class FutexEventSource final : public EventSource {
 public:
  void poll(Nanos timeout) noexcept override;
  void interrupt() noexcept override;
  bool has_events() noexcept override { return false; }
  void reset_after_fork() noexcept override { interrupted_.store(0, std::memory_order_relaxed); }

 private:
  std::atomic<uint32_t> interrupted_{0};
};

}  // namespace weft::engine
