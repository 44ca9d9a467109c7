// offload(): what can only block, or computes for long, on an OS thread.
#pragma once

#include <exception>
#include <functional>
#include <optional>
#include <type_traits>

#include "weft/fiber.hpp"

namespace weft {

namespace detail {
/// Runs work(argument) on a thread of the pool, and returns when it has. Not cancellable.
WEFT_API void offload(void (*work)(void* argument) noexcept, void* argument) noexcept;
}  // namespace detail

/// Calls `function()` on a thread of the pool, which grows to 512, while the calling fiber waits and others
/// run; returns what it returns, throws what it throws. On a native thread, or where no thread can be had, it
/// is called right here. The function borrows the caller's variables, so this is no cancellation point: it
/// returns when the function has. It must not use fibers' waits: it runs on a native thread.
template <std::invocable F>
decltype(auto) offload(F&& function) {
  using R = std::invoke_result_t<F>;
  struct Call {
    F& function;
    detail::ResultOf<R> result{};
    std::exception_ptr error{};
  } call{function};
  detail::offload(
      [](void* argument) noexcept {
        auto& self = *static_cast<Call*>(argument);
        try {
          self.result.run(self.function);
        } catch (...) {
          self.error = std::current_exception();
        }
      },
      &call);
  if (call.error) std::rethrow_exception(call.error);
  if constexpr (std::is_reference_v<R>)
    return static_cast<R>(*call.result.value);
  else if constexpr (!std::is_void_v<R>)
    return R(std::move(*call.result.value));
}

}  // namespace weft
