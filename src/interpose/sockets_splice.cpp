// Moving data between descriptors in the kernel: sendfile, splice, tee, vmsplice.
//
// sendfile(2) to a socket knows no way not to block but O_NONBLOCK, which others may share. So for a blocking
// socket it is made of reads and of sends with MSG_DONTWAIT: one copy more, in exchange for any number of
// slow receivers on one carrier.
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "interpose/descriptor_state.hpp"
#include "interpose/sockets_transfer.hpp"
#include "interpose/sockets_wait.hpp"
#include "poll/file_io.hpp"
#include "poll/offload_pool.hpp"

namespace weft::engine::interpose {

namespace {

constexpr size_t kChunk = 64 * 1024;
constexpr size_t kLongestTransfer = 0x7ffff000;  // of the kernel, for any one call

struct Free {
  void operator()(void* memory) const noexcept { free(memory); }
};

mode_t kind_of(int fd) noexcept {
  struct stat status {};
  return fstat(fd, &status) == 0 ? status.st_mode & S_IFMT : 0;
}

bool is_ready(int fd, short events) noexcept {
  FdWait now;
  now.fd = fd;
  now.events = events;
  return poll_now({&now, 1}) > 0;
}

// Reads what the page cache has; from the disk only in a way that lets other fibers run.
long read_chunk(int fd, void* buffer, size_t length, off_t offset) noexcept {
  const iovec vector{buffer, length};
  const long result = sys::call(SYS_preadv2, fd, &vector, 1, offset, 0, RWF_NOWAIT);
  if (result >= 0 || (result != -EAGAIN && result != -EOPNOTSUPP)) return result;
  return file_io::readv(fd, &vector, 1, offset);
}

// Sends `length` bytes from `offset` of the file on. Returns how many, or a negated errno if none.
long copy_to_socket(int socket, int file, off_t offset, size_t length) noexcept {
  std::unique_ptr<void, Free> buffer;
  IoWait wait(socket, POLLOUT, "sendfile");
  size_t sent = 0;
  const auto result = [&](long error) noexcept { return sent > 0 ? static_cast<long>(sent) : error; };
  while (sent < length) {
    if (!buffer) buffer.reset(malloc(kChunk));
    if (!buffer) return result(-ENOMEM);
    const long got =
        read_chunk(file, buffer.get(), std::min(kChunk, length - sent), offset + static_cast<off_t>(sent));
    if (got <= 0) return result(got);
    const bool more = sent + static_cast<size_t>(got) < length;
    const int flags = MSG_DONTWAIT | (more ? MSG_MORE : 0) | (sent > 0 ? MSG_NOSIGNAL : 0);
    const long done = WEFT_TRY(sendto, socket, buffer.get(), static_cast<size_t>(got), flags, nullptr, 0);
    if (done < 0 && done != -EAGAIN) return result(done);
    if (done > 0) {
      sent += static_cast<size_t>(done);
      wait.progressed();
      if (done == got) continue;
    }
    buffer.reset();  // a slow receiver costs no memory; the page cache has the data
    if (const int error = wait.next()) return result(-error);
    if (sent > 0 && (wait.seen() & (POLLERR | POLLHUP))) break;
  }
  return static_cast<long>(sent);
}

ssize_t offload_sendfile(int out, int in, off_t* offset, size_t count) noexcept {
  ssize_t result = -1;
  OffloadPool::instance().run("sendfile",
                              [&]() noexcept { result = real::sendfile(out, in, offset, count); });
  return result;
}

// One end of a splice.
struct End {
  int fd;
  short events;
  mode_t kind = kind_of(fd);
  // REQUIRES: a pipe or a socket.
  bool blocks(unsigned flags) const noexcept {
    return !(S_ISFIFO(kind) && (flags & SPLICE_F_NONBLOCK)) && is_nonblocking(fd) == 0;
  }
  bool waits() const noexcept { return S_ISFIFO(kind) || S_ISSOCK(kind); }
  bool ready() const noexcept { return is_ready(fd, events); }
};

// Calls attempt() until it does something, waiting for whichever end is not ready. Returns a count or a
// negated errno.
template <typename Attempt>
long between(const End& in, const End& out, unsigned flags, const char* call, Attempt&& attempt) noexcept {
  IoWait wait_in(in.fd, POLLIN, call), wait_out(out.fd, POLLOUT, call);
  // SPLICE_F_NONBLOCK does not reach a socket that is read from.
  while (S_ISSOCK(in.kind) && !in.ready()) {
    if (!in.blocks(flags)) return -EAGAIN;
    if (const int error = wait_in.next()) return -error;
  }
  for (;;) {
    const long result = attempt();
    if (result != -EAGAIN) return result;
    const bool wait_for_input = in.waits() && !in.ready();
    const End& late = wait_for_input ? in : out;
    if (!late.waits() || !late.blocks(flags)) return -EAGAIN;
    if (const int error = (wait_for_input ? wait_in : wait_out).next()) return -error;
  }
}

long splice_between(const End& in, off64_t* in_offset, const End& out, off64_t* out_offset, size_t length,
                    unsigned flags) noexcept {
  const bool disk = !in.waits() || !out.waits();
  return between(in, out, flags, "splice", [&]() noexcept {
    long result = -EAGAIN;
    auto attempt = [&]() noexcept {
      result = sys::call(SYS_splice, in.fd, in_offset, out.fd, out_offset, length, flags | SPLICE_F_NONBLOCK);
    };
    if (disk)
      OffloadPool::instance().run("splice", attempt);
    else
      attempt();
    return result;
  });
}

// Waits until the pipe has something and the socket, a blocking one, room for a chunk, then moves one. In the
// offload pool, since SPLICE_F_NONBLOCK does not reach a socket that is written to (seen on Linux 6.1
// and 6.18), and another writer may take the room meanwhile.
long splice_to_blocking_socket(const End& pipe, const End& socket, size_t length, unsigned flags) noexcept {
  IoWait wait_in(pipe.fd, POLLIN, "splice"), wait_out(socket.fd, POLLOUT, "splice");
  const size_t chunk = std::min(length, kChunk);
  for (;;) {
    while (!pipe.ready()) {
      if (!pipe.blocks(flags)) return -EAGAIN;
      if (const int error = wait_in.next()) return -error;
    }
    while (!socket.ready())
      if (const int error = wait_out.next()) return -error;
    long result = -EAGAIN;
    auto attempt = [&]() noexcept {
      result = sys::call(SYS_splice, pipe.fd, nullptr, socket.fd, nullptr, chunk, flags | SPLICE_F_NONBLOCK);
    };
    OffloadPool::instance().run("splice", attempt);
    if (result == -EPIPE) attempt();  // does not block, and gives this thread its SIGPIPE
    if (result != -EAGAIN) return result;
  }
}

}  // namespace

ssize_t routed::sendfile(int out, int in, off_t* offset, size_t count) noexcept {
  WEFT_STRAIGHT(sendfile, out, in, offset, count)
  if (count == 0 || is_nonblocking(out) != 0) return real::sendfile(out, in, offset, count);
  // Whatever the kernel would refuse, it shall refuse itself; and what is no socket keeps it busy, or
  // waiting, for a while.
  const mode_t source = kind_of(in);
  const long access = sys::call(SYS_fcntl, in, F_GETFL);
  if (source == 0 || (access & O_ACCMODE) == O_WRONLY) return real::sendfile(out, in, offset, count);
  const bool copied = socket_option(out, SO_TYPE) == SOCK_STREAM && (S_ISREG(source) || S_ISBLK(source));
  if (!copied) return offload_sendfile(out, in, offset, count);
  const off_t start = offset ? *offset : lseek(in, 0, SEEK_CUR);
  if (start < 0) return fail(EINVAL);
  const long sent = copy_to_socket(out, in, start, std::min(count, kLongestTransfer));
  if (sent > 0) {
    if (offset)
      *offset = start + sent;
    else
      lseek(in, start + sent, SEEK_SET);
  }
  return libc_result(sent);
}

ssize_t routed::splice(int in, off64_t* in_offset, int out, off64_t* out_offset, size_t length,
                       unsigned flags) noexcept {
  WEFT_STRAIGHT(splice, in, in_offset, out, out_offset, length, flags)
  const End source{in, POLLIN}, target{out, POLLOUT};
  if (length == 0 || source.kind == 0 || target.kind == 0 ||
      (!S_ISFIFO(source.kind) && !S_ISFIFO(target.kind)))
    return real::splice(in, in_offset, out, out_offset, length, flags);
  if (!S_ISSOCK(target.kind) || !target.blocks(flags))
    return libc_result(splice_between(source, in_offset, target, out_offset, length, flags));
  if (in_offset || out_offset) return real::splice(in, in_offset, out, out_offset, length, flags);  // refused
  // A blocking socket takes all that the pipe has.
  size_t moved = 0;
  for (int left = 1; moved < length && left > 0;) {
    const long more = splice_to_blocking_socket(source, target, length - moved, flags);
    if (more <= 0) return moved > 0 ? static_cast<ssize_t>(moved) : libc_result(more);
    moved += static_cast<size_t>(more);
    if (sys::call(SYS_ioctl, in, FIONREAD, &left) != 0) break;
  }
  return static_cast<ssize_t>(moved);
}

ssize_t routed::tee(int in, int out, size_t length, unsigned flags) noexcept {
  WEFT_STRAIGHT(tee, in, out, length, flags)
  const End source{in, POLLIN}, target{out, POLLOUT};
  if (!S_ISFIFO(source.kind) || !S_ISFIFO(target.kind)) return real::tee(in, out, length, flags);
  return libc_result(between(source, target, flags, "tee", [&]() noexcept {
    return sys::call(SYS_tee, in, out, length, flags | SPLICE_F_NONBLOCK);
  }));
}

ssize_t routed::vmsplice(int fd, const iovec* vectors, size_t count, unsigned flags) noexcept {
  WEFT_STRAIGHT(vmsplice, fd, vectors, count, flags)
  const long access = sys::call(SYS_fcntl, fd, F_GETFL);
  const short events = (access & O_ACCMODE) == O_RDONLY ? POLLIN : POLLOUT;
  IoWait wait(fd, events, "vmsplice");
  for (;;) {
    const long result = sys::call(SYS_vmsplice, fd, vectors, count, flags | SPLICE_F_NONBLOCK);
    if (result != -EAGAIN || (flags & SPLICE_F_NONBLOCK)) return libc_result(result);
    if (const int error = wait.next()) return fail(error);
  }
}

}  // namespace weft::engine::interpose
