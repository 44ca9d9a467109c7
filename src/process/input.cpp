#include <poll.h>

#include <cerrno>
#include <csignal>
#include <ctime>

#include "fiber/sys.hpp"
#include "weft/detail/process.hpp"

namespace weft::detail {

namespace {

namespace sys = engine::sys;

constexpr uint64_t kSigPipe = uint64_t{1} << (SIGPIPE - 1);

// write(2) to a pipe has no MSG_NOSIGNAL: the signal, which is the calling thread's own, is blocked and then
// taken away, unless one was pending before. The caller does not switch meanwhile.
long write_quietly(int fd, const char* data, size_t size) noexcept {
  uint64_t former = 0, pending = 0;
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, &kSigPipe, &former, sizeof former);
  sys::call(SYS_rt_sigpending, &pending, sizeof pending);
  const long written = sys::call(SYS_write, fd, data, size);
  if (written == -EPIPE && !(pending & kSigPipe)) {
    const timespec at_once{};
    sys::call(SYS_rt_sigtimedwait, &kSigPipe, nullptr, &at_once, sizeof kSigPipe);
  }
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &former, nullptr, sizeof former);
  return written;
}

}  // namespace

IoResult write_child(Child* child, const char* data, size_t size, Nanos deadline) noexcept {
  size_t written = 0;
  while (written < size) {
    const int fd = child_input(child);
    const long result = fd < 0 ? -EPIPE : write_quietly(fd, data + written, size - written);
    if (result == -EAGAIN) {
      const IoResult waited = wait_for_descriptor(fd, POLLOUT, deadline, "write_child");
      if (waited.outcome != Outcome::kReady) return {static_cast<int64_t>(written), waited.outcome};
    } else if (result == -EBADF) {
      return {-EPIPE, Outcome::kReady};
    } else if (result >= 0) {
      written += static_cast<size_t>(result);
    } else if (result != -EINTR) {
      return {result, Outcome::kReady};
    }
  }
  return {static_cast<int64_t>(written), Outcome::kReady};
}

}  // namespace weft::detail
