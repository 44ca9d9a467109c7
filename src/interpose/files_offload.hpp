// Calls that are made whole by the offload pool.
#pragma once

#include "interpose/support.hpp"
#include "poll/offload_pool.hpp"

namespace weft::engine::interpose {

struct CallSite {
  const char* call;
  const void* caller;
};

/// Calls `function`, libc's own: on a fiber by way of the pool, elsewhere right here. errno is the call's.
/// What the arguments point to stays valid meanwhile: the fiber waits uninterruptibly.
template <typename Function, typename... Args>
auto offload(const CallSite& site, Function* function, Args... args) noexcept {
  if (!current_fiber()) {
    PinScope pin(site.call, site.caller);
    return function(args...);
  }
  decltype(function(args...)) result{};
  OffloadPool::instance().run(site.call, [&]() noexcept { result = function(args...); });
  return result;
}

/// For the first two arguments of offload(), in a routed function.
#define WEFT_CALL(call) CallSite{#call, __builtin_return_address(0)}, real::call

}  // namespace weft::engine::interpose
