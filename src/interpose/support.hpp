// What the routed calls have in common.
#pragma once

#include <atomic>
#include <cerrno>

#include "fiber/carrier.hpp"
#include "fiber/clock.hpp"
#include "fiber/parking_lot.hpp"
#include "interpose/pins.hpp"

namespace weft::engine::host {
class Python;
}

namespace weft::engine::interpose {

/// An interpreter whose fibers must not switch while they hold its lock, because it could not be found out
/// where it keeps the present thread's state. Normally there is none.
void set_interpreter_that_pins(host::Python* python) noexcept;
/// For current_fiber(): is there one, and does the running fiber hold its lock?
bool interpreter_pins() noexcept;
extern constinit bool g_interpreter_may_pin;

/// True in a process with an interpreter whose threads cannot be fibers of shared identity: they stay OS
/// threads. The first time, it says so on standard error.
bool interpreter_is_unsupported() noexcept;

/// True after the routing has ended: who posts and signals does not come by the parking lot any more, so an
/// OS thread must not wait there.
extern constinit std::atomic<bool> g_routing_ended;
inline bool routing_ended() noexcept {
  return g_routing_ended.load(std::memory_order_acquire);
}

/// The running fiber if the call being made may switch, else null: then it goes straight to libc.
inline Fiber* current_fiber() noexcept {
  const ThreadState& thread = thread_state();
  if (!thread.carrier || thread.no_switch > 0 || (g_interpreter_may_pin && interpreter_pins()))
    return nullptr;
  return &thread.carrier->running();
}

/// For calls that never wait, which a program may make in a loop: see Carrier::give_way().
inline void give_way() noexcept {
  if (Fiber* self = current_fiber()) self->carrier().give_way();
}

/// Nanoseconds from now until `time` of `clock`, as a CLOCK_MONOTONIC deadline; in the past: now. A clock
/// that is set while the wait lasts is not followed.
inline Nanos monotonic_deadline(clockid_t clock, const timespec& time) noexcept {
  const Nanos at = to_nanos(time);
  if (clock == CLOCK_MONOTONIC || at == kNever) return at;
  timespec present{};
  clock_gettime(clock, &present);
  const Nanos left = at - to_nanos(present);
  return later(monotonic_now(), left > 0 ? left : 0);
}

inline bool valid(const timespec& time) noexcept {
  return time.tv_nsec >= 0 && time.tv_nsec < kSecond;
}

/// Sets errno and returns -1.
inline int fail(int error) noexcept {
  errno = error;
  return -1;
}

/// Keeps errno over a scope that must not change it.
class ErrnoKeeper {
 public:
  ErrnoKeeper() noexcept : error_(errno) {}
  ~ErrnoKeeper() { errno = error_; }
  ErrnoKeeper(const ErrnoKeeper&) = delete;
  ErrnoKeeper& operator=(const ErrnoKeeper&) = delete;

 private:
  int error_;
};

}  // namespace weft::engine::interpose
