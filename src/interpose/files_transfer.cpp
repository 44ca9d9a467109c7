// How a read or write is made to park.
//
// It is first tried in a way that cannot block: RWF_NOWAIT, which pipes, sockets, eventfds and most disk file
// systems know. Where that would block, pollable files are waited for with the poller, and files on disk read
// by file_io. What does not know RWF_NOWAIT is treated by its kind. The common cases cost no system call more
// than libc's:
//
//   - a read that fills the buffer or finds nothing, from anything that knows RWF_NOWAIT;
//   - others pay for lseek, which tells files from pipes and sockets, and, where it is a file, for statx.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "fiber/sys.hpp"
#include "interpose/calls.hpp"
#include "interpose/descriptor_state.hpp"
#include "interpose/files.hpp"
#include "interpose/files_kind.hpp"
#include "poll/file_io.hpp"
#include "poll/offload_pool.hpp"
#include "poll/poller.hpp"

namespace weft::engine::interpose {

namespace {

bool would_block(long result) noexcept {
  return result == -EAGAIN;
}

long now_or_never(const Transfer& t, const iovec* vectors, int count) noexcept {
  return sys::call(t.writing ? SYS_pwritev2 : SYS_preadv2, t.fd, vectors, count, t.offset, 0,
                   t.flags | RWF_NOWAIT);
}

// The call as it was made, on the present thread, blocking. Some drivers tell read from readv of one vector.
long make_call(const Transfer& t) noexcept {
  if (t.flags)
    return sys::call(t.writing ? SYS_pwritev2 : SYS_preadv2, t.fd, t.vectors, t.count, t.offset, 0, t.flags);
  const bool at_position = t.offset == kAtPosition;
  if (t.plain) {
    const auto& [base, size] = t.vectors[0];
    if (at_position) return sys::call(t.writing ? SYS_write : SYS_read, t.fd, base, size);
    return sys::call(t.writing ? SYS_pwrite64 : SYS_pread64, t.fd, base, size, t.offset);
  }
  if (at_position) return sys::call(t.writing ? SYS_writev : SYS_readv, t.fd, t.vectors, t.count);
  return sys::call(t.writing ? SYS_pwritev : SYS_preadv, t.fd, t.vectors, t.count, t.offset, 0);
}

Transfer rest_of(const Transfer& t, const Cursor& cursor) noexcept {
  Transfer rest = t;
  rest.vectors = cursor.vectors();
  rest.count = cursor.count();
  return rest;
}

long offload_call(const Transfer& t) noexcept {
  long result = 0;
  OffloadPool::instance().run(t.call, [&]() noexcept { result = make_call(t); });
  // A pool thread blocks the signal that goes with the error.
  if (result == -EPIPE && t.writing)
    sys::call(SYS_tgkill, sys::call(SYS_getpid), sys::call(SYS_gettid), SIGPIPE);
  return result;
}

long through_file_io(const Transfer& t) noexcept {
  if (t.flags) return offload_call(t);
  return t.writing ? file_io::writev(t.fd, t.vectors, t.count, t.offset)
                   : file_io::readv(t.fd, t.vectors, t.count, t.offset);
}

// Made on the carrier although it may have to wait for the disk.
long on_quick_disk(const Transfer& t) noexcept {
  const Nanos start = monotonic_now();
  if (!disk_is_quick(start)) return through_file_io(t);
  PinScope pin(t.call, nullptr);
  const long result = make_call(t);
  disk_was_used(start);
  return result;
}

int status_flags(int fd) noexcept {
  return static_cast<int>(sys::call(SYS_fcntl, fd, F_GETFL));
}

// --- Pollable files. An attempt returns a count or a negated errno, -EAGAIN where it would block.

template <typename Attempt>
ssize_t repeat(const Transfer& t, Cursor& cursor, bool to_the_end, long seen, Attempt&& attempt) noexcept {
  IoWait wait(t.fd, t.writing ? POLLOUT : POLLIN, t.call);
  for (;;) {
    if (seen >= 0) {
      cursor.advance(static_cast<size_t>(seen));
      wait.progressed();
      if (!to_the_end || cursor.finished() || seen == 0) return static_cast<ssize_t>(cursor.done());
    } else if (!would_block(seen)) {
      return cursor.done() ? static_cast<ssize_t>(cursor.done()) : libc_result(seen);
    } else if (const int error = wait.next()) {
      return cursor.done() ? static_cast<ssize_t>(cursor.done()) : fail(error);
    }
    seen = attempt();
  }
}

template <typename Attempt>
ssize_t repeat(const Transfer& t, Cursor& cursor, bool to_the_end, Attempt&& attempt) noexcept {
  return repeat(t, cursor, to_the_end, attempt(), attempt);
}

// Files that say they are ready but can only be called blocking: the call goes to the pool, lest another
// process takes what was there before we come to it.
ssize_t poll_then_call(const Transfer& t, bool on_carrier) noexcept {
  Cursor cursor(t.vectors, t.count);
  return repeat(t, cursor, false, [&]() noexcept -> long {
    if (!is_ready(t.fd, t.writing)) return -EAGAIN;
    if (!on_carrier) return offload_call(t);
    PinScope pin(t.call, nullptr);
    return make_call(t);
  });
}

long message_now(const Transfer& t, const Cursor& cursor) noexcept {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(cursor.vectors());
  message.msg_iovlen = static_cast<size_t>(cursor.count());
  if (!t.writing) return sys::call(SYS_recvmsg, t.fd, &message, MSG_DONTWAIT);
  // Natively a write that has sent a part raises no signal when the peer then goes away.
  return sys::call(SYS_sendmsg, t.fd, &message, MSG_DONTWAIT | (cursor.done() ? MSG_NOSIGNAL : 0));
}

ssize_t transfer_socket(const Transfer& t, Cursor& cursor, long seen) noexcept {
  return repeat(t, cursor, t.writing, seen, [&]() noexcept { return message_now(t, cursor); });
}

ssize_t transfer_pipe_nowait(const Transfer& t, Cursor& cursor, long seen) noexcept {
  return repeat(t, cursor, t.writing, seen,
                [&]() noexcept { return now_or_never(t, cursor.vectors(), cursor.count()); });
}

// A pipe that does not know RWF_NOWAIT: one with a name, or any before Linux 6.4.
ssize_t transfer_pipe(const Transfer& t) noexcept {
  Cursor cursor(t.vectors, t.count);
  return repeat(t, cursor, t.writing, [&]() noexcept -> long {
    if (!is_ready(t.fd, t.writing)) return -EAGAIN;
    const int again = reopen_nonblocking(t.fd, t.writing);
    if (again == -ENXIO)
      return make_call(rest_of(t, cursor));  // nobody reads: fails at once, with its signal
    if (again < 0) return offload_call(rest_of(t, cursor));
    const long result =
        sys::call(t.writing ? SYS_writev : SYS_readv, again, cursor.vectors(), cursor.count());
    close_reopened(again);
    return result;
  });
}

// An eventfd takes any number that still fits, and says that it is ready when 1 does.
ssize_t write_events(const Transfer& t) noexcept {
  uint64_t value = 0;
  if (t.count > 0 && t.vectors[0].iov_len >= sizeof value && t.vectors[0].iov_base)
    memcpy(&value, t.vectors[0].iov_base, sizeof value);
  return poll_then_call(t, value == 1);
}

// --- Files.

ssize_t read_disk(const Transfer& t) noexcept {
  const Cursor cursor(t.vectors, t.count);
  return libc_result(cursor.total() <= kSmallTransfer ? on_quick_disk(t) : through_file_io(t));
}

ssize_t write_disk(const Transfer& t) noexcept {
  constexpr int kWaitsForDisk = O_DIRECT | O_DSYNC | O_SYNC;
  const Cursor cursor(t.vectors, t.count);
  const bool cached =
      t.flags == 0 && cursor.total() <= kSmallTransfer && !(status_flags(t.fd) & kWaitsForDisk);
  return libc_result(cached ? on_quick_disk(t) : through_file_io(t));
}

// A file that is neither on disk nor always quick, and does not know RWF_NOWAIT.
ssize_t transfer_pollable(const Transfer& t, FileKind kind) noexcept {
  Cursor cursor(t.vectors, t.count);
  const bool has_no_position = kind == FileKind::kPipe || kind == FileKind::kSocket ||
                               kind == FileKind::kTerminal || kind == FileKind::kPtyMaster;
  if (cursor.total() == 0 || is_nonblocking(t.fd) > 0 || (t.offset != kAtPosition && has_no_position))
    return libc_result(make_call(t));
  switch (kind) {
    case FileKind::kSocket:
      return transfer_socket(t, cursor, message_now(t, cursor));
    case FileKind::kPipe:
      return transfer_pipe(t);
    case FileKind::kTerminal:
      return t.writing ? write_terminal(t) : read_terminal(t);
    case FileKind::kEvents:
      return t.writing ? write_events(t) : poll_then_call(t, is_signalfd(t.fd));
    default:
      return poll_then_call(t, false);
  }
}

// `refused`: it does not know RWF_NOWAIT, or may not be asked.
ssize_t transfer_by_kind(const Transfer& t, bool refused) noexcept {
  const FileKind kind = info_of(t.fd).kind;
  switch (kind) {
    case FileKind::kDisk:
      if (t.writing) return write_disk(t);
      return refused ? read_disk(t) : libc_result(through_file_io(t));
    case FileKind::kRemote:
    case FileKind::kBlock:
      return libc_result(through_file_io(t));
    case FileKind::kUnknown:
    case FileKind::kMemory:
    case FileKind::kDirectory:
      return libc_result(make_call(t));
    default:
      break;
  }
  // An eventfd or the like: it has a position as far as lseek goes. One that cannot be read or written says
  // so at once.
  const long result = refused && !t.writing ? -EOPNOTSUPP : now_or_never(t, t.vectors, t.count);
  if (result == -EOPNOTSUPP) return transfer_pollable(t, kind);
  Cursor cursor(t.vectors, t.count);
  return repeat(t, cursor, false, result, [&]() noexcept { return now_or_never(t, t.vectors, t.count); });
}

// A short read of a file is its end, or the end of what is cached.
ssize_t continue_read(const Transfer& t, Cursor& cursor, off_t position) noexcept {
  for (;;) {
    if (cursor.finished()) return static_cast<ssize_t>(cursor.done());
    const FileInfo info = info_of(t.fd);
    const bool file =
        info.kind == FileKind::kDisk || info.kind == FileKind::kRemote || info.kind == FileKind::kMemory;
    if (!file || static_cast<uint64_t>(position) >= info.size) return static_cast<ssize_t>(cursor.done());
    Transfer rest = rest_of(t, cursor);
    if (t.offset != kAtPosition) rest.offset = position;
    const long result = through_file_io(rest);
    if (result <= 0) return static_cast<ssize_t>(cursor.done());
    cursor.advance(static_cast<size_t>(result));
    position += result;
  }
}

// Linux 5.9 and 5.10 return 0 for what is not cached (preadv2(2), BUGS).
bool zero_may_lie() noexcept {
  static const bool lies = [] {
    utsname name{};
    sys::call(SYS_uname, &name);
    return strncmp(name.release, "5.9.", 4) == 0 || strncmp(name.release, "5.10.", 5) == 0;
  }();
  return lies;
}

off_t position_of(int fd) noexcept {
  return sys::call(SYS_lseek, fd, 0, SEEK_CUR);
}

}  // namespace

Cursor::Cursor(const iovec* vectors, int count) noexcept : all_(vectors), all_count_(count), total_(0) {
  for (int i = 0; i < count; ++i)
    total_ = std::min(kMaxTransfer, total_ + std::min(kMaxTransfer, vectors[i].iov_len));
}

void Cursor::advance(size_t bytes) noexcept {
  done_ += bytes;
  while (index_ < all_count_ && bytes >= all_[index_].iov_len - consumed_) {
    bytes -= all_[index_].iov_len - consumed_;
    consumed_ = 0;
    ++index_;
  }
  consumed_ += bytes;
  window_count_ = std::min(kWindow, all_count_ - index_);
  for (int i = 0; i < window_count_; ++i) window_[i] = all_[index_ + i];
  if (window_count_ == 0 || consumed_ == 0) return;
  window_[0].iov_base = static_cast<char*>(window_[0].iov_base) + consumed_;
  window_[0].iov_len -= consumed_;
}

int error_of(Wake wake) noexcept {
  switch (wake) {
    case Wake::kReady:
      return 0;
    case Wake::kTimeout:
      return ETIMEDOUT;
    case Wake::kInterrupted:
      return EINTR;
    case Wake::kCancelled:
    case Wake::kExpired:
      return revocation_error(wake);
    case Wake::kClosed:
      return EBADF;
  }
  return EINVAL;
}

int Readiness::wait_until(Nanos deadline) noexcept {
  if (!known_) {
    if (is_nonblocking(fd_) > 0) return EAGAIN;
    known_ = true;
  }
  constexpr uint8_t kFlags = kCancellable | kInterruptible | kRestartable;
  return error_of(Poller::of_this_carrier().wait(fd_, writing_ ? POLLOUT : POLLIN, deadline, kFlags, call_));
}

bool is_ready(int fd, bool writing) noexcept {
  FdWait wait;
  wait.fd = fd;
  wait.events = writing ? POLLOUT : POLLIN;
  return poll_now({&wait, 1}) > 0;
}

int reopen_nonblocking(int fd, bool writing) noexcept {
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  const int flags = (writing ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  return static_cast<int>(sys::call(SYS_openat, AT_FDCWD, path, flags, 0));
}

void close_reopened(int fd) noexcept {
  sys::call(SYS_close, fd);
}

ssize_t transfer(const Transfer& t) noexcept {
  give_way();
  // Writes to files are not split, since appending is atomic, and RWF_NOWAIT may do a part only.
  if (t.writing && (t.offset != kAtPosition || position_of(t.fd) >= 0)) return transfer_by_kind(t, true);
  const long result = now_or_never(t, t.vectors, t.count);
  if (result >= 0) {
    if (result == 0 && !zero_may_lie()) return 0;
    Cursor cursor(t.vectors, t.count);
    if (static_cast<size_t>(result) == cursor.total()) return result;
    if (t.writing) {
      const FileKind kind = info_of(t.fd).kind;
      if (kind == FileKind::kPipe) return transfer_pipe_nowait(t, cursor, result);
      return kind == FileKind::kSocket ? transfer_socket(t, cursor, result) : result;
    }
    const off_t position = t.offset == kAtPosition ? position_of(t.fd) : t.offset + result;
    if (position < 0) return result;
    cursor.advance(static_cast<size_t>(result));
    return continue_read(t, cursor, position);
  }
  if (result == -EOPNOTSUPP) return transfer_by_kind(t, true);
  if (!would_block(result)) return libc_result(result);
  if (t.offset != kAtPosition || position_of(t.fd) >= 0) return transfer_by_kind(t, false);
  // A pipe or a socket.
  Cursor cursor(t.vectors, t.count);
  if (!t.writing)
    return repeat(t, cursor, false, result, [&]() noexcept { return now_or_never(t, t.vectors, t.count); });
  const FileKind kind = info_of(t.fd).kind;
  if (kind == FileKind::kPipe) return transfer_pipe_nowait(t, cursor, result);
  if (kind == FileKind::kSocket) return transfer_socket(t, cursor, result);
  return repeat(t, cursor, false, result, [&]() noexcept { return now_or_never(t, t.vectors, t.count); });
}

}  // namespace weft::engine::interpose
