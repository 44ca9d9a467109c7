// What a probe's time limit does to its waits.
#pragma once

#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>

#include "weft/net/stream.hpp"

namespace weft::process {

/// The service is there, but not as it should be: what() is a result's words.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// When a probe is to end. Unlike a TimeoutScope it binds native threads, too.
class Deadline {
 public:
  explicit Deadline(std::chrono::nanoseconds limit) noexcept {
    const auto now = Clock::now();
    end_ = now + std::clamp<std::chrono::nanoseconds>(limit, limit.zero(), Clock::time_point::max() - now);
  }
  /// More than nothing. Throws Timeout when nothing is left.
  std::chrono::nanoseconds remaining() const {
    const auto rest = end_ - Clock::now();
    if (rest <= rest.zero()) throw Timeout("probe");
    return rest;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point end_;
};

/// A connection whose waits end, with Timeout, at a deadline, however many there are. All that waits is a
/// cancellation point, see net::Stream. REQUIRES: the deadline outlives it.
class LimitedStream {
 public:
  LimitedStream(net::Stream stream, const Deadline& deadline) noexcept
      : stream_(std::move(stream)), deadline_(deadline) {}

  size_t read_some(MutableBytes buffer) {
    stream_.set_read_timeout(deadline_.remaining());
    return stream_.read_some(buffer);
  }
  void write_all(Bytes bytes) {
    stream_.set_write_timeout(deadline_.remaining());
    stream_.write_all(bytes);
  }
  /// What the kernel takes now; for farewells, of which nobody needs to know whether they went out.
  void write_at_once(Bytes bytes) noexcept {
    if (bytes.size())
      (void)!::send(stream_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }

 private:
  net::Stream stream_;
  const Deadline& deadline_;
};

}  // namespace weft::process
