// Files: open and its kin.
//
// Opening a file that exists on a local disk takes as long as looking its path up, which the caller mostly
// has done before (stat) and which stays on the carrier, like the other calls that only name files. What may
// take longer goes through file_io: file systems that ask a server, files to be made or emptied, devices. A
// FIFO waits for its other end.
#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <cstdarg>

#include "fiber/sys.hpp"
#include "interpose/calls.hpp"
#include "interpose/files.hpp"
#include "interpose/files_kind.hpp"
#include "poll/file_io.hpp"
#include "poll/poller.hpp"

namespace weft::engine::interpose {

namespace {

constexpr uint64_t kQuicklyEmptied = 1024 * 1024;

struct Opening {
  int directory;
  const char* path;
  int flags;
  mode_t mode;
  const char* call;
};

long open_now(const Opening& o, int more_flags = 0) noexcept {
  return sys::call(SYS_openat, o.directory, o.path, o.flags | more_flags, o.mode);
}

long open_elsewhere(const Opening& o) noexcept {
  return file_io::openat(o.directory, o.path, o.flags, o.mode);
}

// The end of a FIFO that was opened without waiting, made what the caller asked for: the description is still
// our own.
long as_asked(long fd) noexcept {
  const long flags = sys::call(SYS_fcntl, fd, F_GETFL);
  sys::call(SYS_fcntl, fd, F_SETFL, flags & ~O_NONBLOCK);
  return fd;
}

class Patience {
 public:
  Nanos next_deadline() noexcept {
    const Nanos pause = pause_;
    pause_ = std::min(2 * pause, kLongest);
    return later(monotonic_now(), pause);
  }

 private:
  static constexpr Nanos kLongest = 20 * kMillisecond;
  Nanos pause_ = kMillisecond / 4;
};

// True if a process has the FIFO open for writing, or had: then a native open for reading would have
// returned.
bool has_had_writer(int fd) noexcept {
  FdWait state;
  state.fd = fd;
  state.events = POLLIN;
  if (poll_now({&state, 1}) > 0) return true;
  // With no writer this is the end of file, else it would block. It takes no data, should some have come just
  // now: there is nowhere to put it.
  return sys::call(SYS_read, fd, nullptr, 1) != 0;
}

constexpr uint8_t kWaitFlags = kCancellable | kInterruptible | kRestartable;

long open_to_read(const Opening& o) noexcept {
  const long fd = open_now(o, O_NONBLOCK);
  if (fd < 0) return fd;
  Patience patience;
  while (!has_had_writer(static_cast<int>(fd))) {
    // Wakes at once when data comes, or a writer that has left already.
    const Wake wake = Poller::of_this_carrier().wait(static_cast<int>(fd), POLLIN, patience.next_deadline(),
                                                     kWaitFlags, o.call);
    if (wake == Wake::kReady || wake == Wake::kTimeout) continue;
    Poller::closing(static_cast<int>(fd));
    sys::call(SYS_close, fd);
    return -error_of(wake);
  }
  return as_asked(fd);
}

long open_to_write(const Opening& o) noexcept {
  Patience patience;
  for (;;) {
    const long fd = open_now(o, O_NONBLOCK);
    if (fd >= 0) return as_asked(fd);
    if (fd != -ENXIO) return fd;
    const Wake wake = Carrier::current()->sleep_until(patience.next_deadline(), kWaitFlags, o.call);
    if (wake != Wake::kTimeout && wake != Wake::kReady) return -error_of(wake);
  }
}

// There is no event for "the other end was opened", and a pool thread that waits for it in the kernel could
// not be called back when a signal comes: so both ends are opened without waiting, and looked at now and
// then.
long open_fifo(const Opening& o) noexcept {
  switch (o.flags & O_ACCMODE) {
    case O_RDONLY:
      return open_to_read(o);
    case O_WRONLY:
      return open_to_write(o);
    default:
      return open_now(o);  // both ends at once
  }
}

long open_existing(const Opening& o, const FileInfo& info) noexcept {
  switch (info.kind) {
    case FileKind::kDisk:
      return (o.flags & O_TRUNC) && info.size > kQuicklyEmptied ? open_elsewhere(o) : open_now(o);
    case FileKind::kRemote:
    case FileKind::kBlock:
    case FileKind::kDevice:
      return o.flags & O_NONBLOCK ? open_now(o) : open_elsewhere(o);
    case FileKind::kPipe:
      return o.flags & O_NONBLOCK ? open_now(o) : open_fifo(o);
    default:
      return open_now(o);
  }
}

int open_file(const Opening& o) noexcept {
  constexpr int kMakes = O_CREAT | O_TMPFILE;
  if (o.flags & O_PATH) return int_result(open_now(o));
  if ((o.flags & O_TMPFILE) == O_TMPFILE || (o.flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
    return int_result(open_elsewhere(o));
  const FileInfo info = info_of(o.directory, o.path, !(o.flags & O_NOFOLLOW));
  if (info.kind != FileKind::kUnknown) return int_result(open_existing(o, info));
  return int_result(info.error == ENOENT && (o.flags & kMakes) ? open_elsewhere(o) : open_now(o));
}

bool takes_mode(int flags) noexcept {
  return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
}

}  // namespace

int routed::open(const char* path, int flags, ...) noexcept {
  mode_t mode = 0;
  if (takes_mode(flags)) {
    va_list list;
    va_start(list, flags);
    mode = va_arg(list, mode_t);
    va_end(list);
  }
  if (current_fiber()) return open_file({AT_FDCWD, path, flags, mode, "open"});
  PinScope pin("open", __builtin_return_address(0));
  return real::open(path, flags, mode);
}

int routed::openat(int directory, const char* path, int flags, ...) noexcept {
  mode_t mode = 0;
  if (takes_mode(flags)) {
    va_list list;
    va_start(list, flags);
    mode = va_arg(list, mode_t);
    va_end(list);
  }
  if (current_fiber()) return open_file({directory, path, flags, mode, "openat"});
  PinScope pin("openat", __builtin_return_address(0));
  return real::openat(directory, path, flags, mode);
}

int routed::creat(const char* path, mode_t mode) noexcept {
  if (current_fiber()) return open_file({AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode, "creat"});
  PinScope pin("creat", __builtin_return_address(0));
  return real::creat(path, mode);
}

// A mode that is missing is libc's to complain of.
int routed::__open_2(const char* path, int flags) noexcept {
  if (current_fiber() && !takes_mode(flags)) return open_file({AT_FDCWD, path, flags, 0, "open"});
  PinScope pin("open", __builtin_return_address(0));
  return real::__open_2(path, flags);
}

int routed::__openat_2(int directory, const char* path, int flags) noexcept {
  if (current_fiber() && !takes_mode(flags)) return open_file({directory, path, flags, 0, "openat"});
  PinScope pin("openat", __builtin_return_address(0));
  return real::__openat_2(directory, path, flags);
}

}  // namespace weft::engine::interpose
