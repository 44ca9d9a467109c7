// Descriptors: what closes them. Fibers that wait for one are woken with EBADF before it goes.
#include "interpose/descriptors.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "fiber/private_fd.hpp"
#include "fiber/sys.hpp"
#include "interpose/calls.hpp"
#include "interpose/files.hpp"
#include "interpose/support.hpp"
#include "poll/poller.hpp"

namespace weft::engine::interpose {

namespace {

bool is_open(int fd) noexcept {
  return sys::call(SYS_fcntl, fd, F_GETFD) >= 0;
}

// No descriptor of this process is higher: the size of the kernel's table, which never shrinks.
unsigned highest_descriptor() noexcept {
  constexpr unsigned kUnknown = 1u << 20;
  const long fd = sys::call(SYS_openat, AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return kUnknown;
  char text[2048];
  const long size = sys::call(SYS_read, fd, text, sizeof text - 1);
  sys::call(SYS_close, fd);
  text[std::max(size, 0L)] = '\0';
  const char* line = strstr(text, "\nFDSize:");
  return line ? static_cast<unsigned>(strtoul(line + 8, nullptr, 10)) : kUnknown;
}

// close_range without CLOSE_RANGE_CLOEXEC, sparing the engine's own. Returns 0 or a negated errno.
long close_some(unsigned first, unsigned last, unsigned flags) noexcept {
  if (thread_state().in_vfork_child) return sys::call(SYS_close_range, first, last, flags);
  const unsigned end = std::min(last, highest_descriptor());
  for (unsigned fd = first; fd <= end; ++fd) may_close(static_cast<int>(fd));
  for (unsigned from = first;;) {
    const int own = from > INT32_MAX ? -1 : next_private_fd(static_cast<int>(from));
    const bool is_last = own < 0 || static_cast<unsigned>(own) > last;
    if (is_last || static_cast<unsigned>(own) > from) {
      const long error =
          sys::call(SYS_close_range, from, is_last ? last : static_cast<unsigned>(own) - 1, flags);
      if (error < 0) return error;
    }
    if (is_last || static_cast<unsigned>(own) == last) return 0;
    from = static_cast<unsigned>(own) + 1;
  }
}

}  // namespace

bool may_close(int fd) noexcept {
  const ThreadState& thread = thread_state();
  // Its table of descriptors is a copy of the parent's, who still waits.
  if (thread.in_vfork_child) return true;
  if (is_private_fd(fd)) return false;
  // A handler may have interrupted the poller.
  if (thread.handler) return true;
  ErrnoKeeper keeper;
  Poller::closing(fd);
  return true;
}

int routed::close(int fd) noexcept {
  if (!may_close(fd)) return fail(EBADF);
  PinScope pin("close", __builtin_return_address(0));
  return real::close(fd);
}

int routed::mq_close(mqd_t queue) noexcept {
  return may_close(queue) ? real::mq_close(queue) : fail(EBADF);
}

int routed::dup2(int fd, int target) noexcept {
  if (fd != target && is_open(fd) && !may_close(target)) return fail(EBADF);
  return real::dup2(fd, target);
}

int routed::dup3(int fd, int target, int flags) noexcept {
  if (fd != target && !(flags & ~O_CLOEXEC) && is_open(fd) && !may_close(target)) return fail(EBADF);
  return real::dup3(fd, target, flags);
}

int routed::close_range(unsigned first, unsigned last, int flags) noexcept {
  // Marking the engine's descriptors close-on-exec changes nothing.
  const bool closes = !(static_cast<unsigned>(flags) & CLOSE_RANGE_CLOEXEC);
  if (first > last || !closes) return real::close_range(first, last, flags);
  return int_result(close_some(first, last, static_cast<unsigned>(flags)));
}

void routed::closefrom(int first) noexcept {
  if (close_some(static_cast<unsigned>(std::max(first, 0)), ~0u, 0) == -ENOSYS) real::closefrom(first);
}

int routed::fclose(FILE* file) noexcept {
  may_close(fileno(file));
  PinScope pin("fclose", __builtin_return_address(0));
  return real::fclose(file);
}

FILE* routed::freopen(const char* path, const char* mode, FILE* file) noexcept {
  may_close(fileno(file));
  PinScope pin("freopen", __builtin_return_address(0));
  return real::freopen(path, mode, file);
}

int routed::closedir(DIR* directory) noexcept {
  if (directory) may_close(dirfd(directory));
  return real::closedir(directory);
}

}  // namespace weft::engine::interpose
