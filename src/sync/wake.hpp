// From the engine's words to the library's.
#pragma once

#include <cstdint>

#include "fiber/parking_lot.hpp"
#include "runtime/runtime.hpp"
#include "weft/detail/core.hpp"

namespace weft::detail {

static_assert(kNever == engine::kNever);
static_assert(uint8_t{kCancellable} == uint8_t{engine::kCancellable} &&
              uint8_t{kInterruptible} == uint8_t{engine::kInterruptible} &&
              uint8_t{kAhead} == uint8_t{engine::kFrontOfQueue});
static_assert(static_cast<int>(Outcome::kReady) == static_cast<int>(engine::Wake::kReady) &&
              static_cast<int>(Outcome::kTimeout) == static_cast<int>(engine::Wake::kTimeout) &&
              static_cast<int>(Outcome::kInterrupted) == static_cast<int>(engine::Wake::kInterrupted) &&
              static_cast<int>(Outcome::kCancelled) == static_cast<int>(engine::Wake::kCancelled) &&
              static_cast<int>(Outcome::kClosed) == static_cast<int>(engine::Wake::kClosed) &&
              static_cast<int>(Outcome::kExpired) == static_cast<int>(engine::Wake::kExpired));

constexpr Outcome outcome_of(engine::Wake wake) noexcept {
  return static_cast<Outcome>(wake);
}

/// The running fiber if it may be switched now, else null: a native thread, a signal handler.
inline engine::Fiber* switchable_fiber() noexcept {
  const engine::ThreadState& thread = engine::thread_state();
  return thread.carrier && thread.no_switch == 0 ? &thread.carrier->running() : nullptr;
}

/// Starts the engine on the calling thread if it runs nowhere: what follows must know its fiber. Where it
/// cannot start, the caller goes on as a native thread.
inline void ensure_engine() noexcept {
  if (!engine::Runtime::get()) engine::Runtime::start(engine::Settings{});
}

/// The flags of a cancellable wait of the caller.
inline uint8_t cancellable_flags() noexcept {
  const engine::Fiber* fiber = switchable_fiber();
  return static_cast<uint8_t>(kCancellable | (fiber ? fiber->library_flags : 0));
}

}  // namespace weft::detail
