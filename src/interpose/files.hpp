// Reads and writes that park: what the calls of the family files are made of.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include "interpose/sockets_wait.hpp"
#include "interpose/support.hpp"

namespace weft::engine::interpose {

/// A read or write as a fiber asked for it.
struct Transfer {
  bool writing;
  int fd;
  const iovec* vectors;
  int count;
  off_t offset;  ///< kAtPosition, or where in the file
  int flags;     ///< RWF_*
  const char* call;
  bool plain = false;  ///< the one vector stands for a buffer: read, not readv
};
inline constexpr off_t kAtPosition = -1;

/// What the call returns, with errno set; parks where it would block. REQUIRES: the caller is a fiber that
/// may switch.
ssize_t transfer(const Transfer& transfer) noexcept;

/// The kernel moves no more in one call.
inline constexpr size_t kMaxTransfer = 0x7ffff000;

/// What is left of a transfer, as vectors.
class Cursor {
 public:
  Cursor(const iovec* vectors, int count) noexcept;

  size_t total() const noexcept { return total_; }
  size_t done() const noexcept { return done_; }
  bool finished() const noexcept { return done_ == total_; }
  /// Of the next read or write: all that is left, or a part of it.
  const iovec* vectors() const noexcept { return done_ == 0 ? all_ : window_; }
  int count() const noexcept { return done_ == 0 ? all_count_ : window_count_; }
  void advance(size_t bytes) noexcept;

 private:
  static constexpr int kWindow = 8;

  const iovec* all_;
  int all_count_;
  size_t total_;
  size_t done_ = 0;
  int index_ = 0;        // of the first vector not finished,
  size_t consumed_ = 0;  // and how much of it is
  int window_count_ = 0;
  iovec window_[kWindow];
};

/// Waits on behalf of one call until its descriptor, which is no socket, is ready.
class Readiness {
 public:
  Readiness(int fd, bool writing, const char* call) noexcept : fd_(fd), writing_(writing), call_(call) {}
  /// Returns 0, or the errno that the call fails with unless it got something done: EAGAIN for a descriptor
  /// that the user made non-blocking, ETIMEDOUT at the deadline.
  int wait_until(Nanos deadline) noexcept;
  int wait() noexcept { return wait_until(kNever); }

 private:
  int fd_;
  bool writing_;
  const char* call_;
  bool known_ = false;
};

/// libc_result() for calls that return an int.
inline int int_result(long result) noexcept {
  return static_cast<int>(libc_result(result));
}

/// The errno of a wait that ended so, or 0 for Wake::kReady.
int error_of(Wake wake) noexcept;

/// Another open description of the pipe or terminal behind `fd`, which does not block; -1 if that cannot be
/// had. To be closed by close_reopened().
int reopen_nonblocking(int fd, bool writing) noexcept;
void close_reopened(int fd) noexcept;

/// Whether a call on it would not wait now.
bool is_ready(int fd, bool writing) noexcept;

/// Whether a read of this terminal gives up by itself, at once or after a time without input.
bool terminal_gives_up(int fd) noexcept;

/// Reads and writes of a terminal that is in blocking mode.
ssize_t read_terminal(const Transfer& transfer) noexcept;
ssize_t write_terminal(const Transfer& transfer) noexcept;

}  // namespace weft::engine::interpose
