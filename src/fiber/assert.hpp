// An always-on assertion, for broken invariants of the engine itself; never for a user's mistake.
#pragma once

namespace weft::engine::detail {
/// Writes the failed condition to standard error and aborts. Async-signal-safe.
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line) noexcept;
}  // namespace weft::engine::detail

#define WEFT_ASSERT(condition) \
  ((condition) ? void() : ::weft::engine::detail::assertion_failed(#condition, __FILE__, __LINE__))
