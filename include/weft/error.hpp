// What waits throw.
#pragma once

#include <cerrno>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

#include "weft/detail/core.hpp"

namespace weft {

/// Thrown by a cancellable wait of a fiber that was asked to end. Not a std::exception, so that a handler for
/// errors does not swallow it: let it pass. Every later cancellable wait of the fiber throws it again, but
/// under a Shield.
class Cancelled {
 public:
  const char* what() const noexcept { return "the fiber was cancelled"; }
};

/// A time limit of the program's own passed before what was waited for came: of a TimeoutScope, or of the
/// call. error code: std::errc::timed_out; what() is the time limit's, so that nobody takes it for the
/// ETIMEDOUT of a connection that broke off.
class Timeout : public std::system_error {
 public:
  /// `what`: whose it is.
  explicit Timeout(const char* what = "weft")
      : std::system_error(std::make_error_code(std::errc::timed_out), what),
        text_(std::string(what) + ": the time limit has passed") {}
  const char* what() const noexcept override { return text_.what(); }

 private:
  std::runtime_error text_;  // unlike a string's, its copies cannot fail
};

/// Sending into a channel that is closed.
class Closed : public std::logic_error {
 public:
  explicit Closed(const char* what = "the channel is closed; see Channel::closed()")
      : std::logic_error(what) {}
};

namespace detail {

[[noreturn]] inline void throw_errno(int error, const char* what) {
  throw std::system_error(error, std::system_category(), what);
}

inline void raise(Outcome outcome) {
  switch (outcome) {
    case Outcome::kCancelled:
      throw Cancelled();
    case Outcome::kExpired:
      throw Timeout();
    case Outcome::kNoMemory:
      throw std::bad_alloc();
    case Outcome::kSelf:
      throw_errno(EDEADLK, "a fiber cannot wait for its own end");
    default:
      return;
  }
}

}  // namespace detail
}  // namespace weft
