// How what waits for descriptors reports to the headers.
#pragma once

#include "weft/error.hpp"

namespace weft::detail {

/// Of an operation on a descriptor: where `outcome` is kReady, what the system call returned, a value or a
/// negated errno; else how its wait ended, with nothing done.
struct IoResult {
  int64_t value = 0;
  Outcome outcome = Outcome::kReady;
};

/// Waits until `fd` has one of `events` (poll(2)) or an error. -EBADF: it is not open, or was closed
/// meanwhile. Fibers and native threads; `call`: static storage.
WEFT_API IoResult wait_for_descriptor(int fd, short events, Nanos deadline, const char* call) noexcept;

/// Closes a descriptor that no Descriptor owns, and ends the waits for it. Returns 0 or a negated errno.
WEFT_API int close_descriptor(int fd) noexcept;

/// Throws if it failed; else its value.
inline int64_t checked(const IoResult& result, const char* what) {
  if (result.outcome == Outcome::kTimeout) throw Timeout(what);
  if (result.outcome == Outcome::kClosed) throw_errno(EBADF, what);
  raise(result.outcome);
  if (result.value < 0) throw_errno(static_cast<int>(-result.value), what);
  return result.value;
}
/// The same for 0 or a negated errno.
inline void checked(int error, const char* what) {
  if (error < 0) throw_errno(-error, what);
}

/// The end of an operation that may take `span`; zero and less: without end.
inline Nanos deadline_of(Nanos span) noexcept {
  if (span <= 0) return kNever;
  const Nanos start = now();
  return span >= kNever - start ? kNever : start + span;
}
/// A span as deadline_of() takes it.
template <typename Rep, typename Period>
Nanos limit_of(std::chrono::duration<Rep, Period> span) noexcept {
  using Seconds = std::chrono::duration<double>;
  const double seconds = Seconds(span).count();
  if (!(seconds > 0)) return 0;
  if (!(seconds < 9.0e9)) return kNever;
  const Nanos nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(span).count();
  return nanos > 0 ? nanos : 1;
}

}  // namespace weft::detail
