// Counting pins: calls that really block their carrier.
#pragma once

#include <cstdint>
#include <vector>

#include "fiber/clock.hpp"
#include "fiber/pinned_calls.hpp"
#include "interpose/interpose.hpp"

namespace weft::engine::interpose {

/// Put around a call of libc's own function that may block the carrier. When it blocked, and took longer than
/// kPinThreshold, it is counted as a pin of `call`, made from the code at `caller`. Meanwhile a dump can tell
/// of it. On a thread that runs no fibers it does nothing.
class PinScope {
 public:
  static constexpr Nanos kPinThreshold = kMillisecond;

  // Inline, so that the call's place is in a function which returns only after the scope.
  [[gnu::always_inline]] PinScope(const char* call, const void* caller) noexcept {
    call_.site.capture();
    begin(call, caller);
  }
  ~PinScope();
  PinScope(const PinScope&) = delete;
  PinScope& operator=(const PinScope&) = delete;

 private:
  void begin(const char* call, const void* caller) noexcept;

  PinnedCall call_;
  long blockings_ = 0;  // of the thread, when the call began
};

/// All pins so far, by call and library. Any thread.
std::vector<Pin> pins();

/// Counts an OS thread that was created through a routed call.
void count_native_thread() noexcept;
uint64_t native_threads() noexcept;

}  // namespace weft::engine::interpose
