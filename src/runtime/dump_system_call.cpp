#include "runtime/dump_system_call.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "fiber/sys.hpp"

namespace weft::engine::dump {

namespace {

// A socket with a time limit answers EINTR whatever the handler's flags.
bool reads_without_limit(uint64_t fd) noexcept {
  timeval limit{};
  socklen_t size = sizeof limit;
  const long result = sys::call(SYS_getsockopt, static_cast<int>(fd), SOL_SOCKET, SO_RCVTIMEO, &limit, &size);
  return result == -ENOTSOCK || (result == 0 && limit.tv_sec == 0 && limit.tv_usec == 0);
}

}  // namespace

SystemCall SystemCall::of_thread(int thread) noexcept {
  SystemCall call;
  char path[64], line[256];
  snprintf(path, sizeof path, "/proc/self/task/%d/syscall", thread);
  const long fd = sys::call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return call;
  const long size = sys::call(SYS_read, fd, line, sizeof line - 1);
  sys::call(SYS_close, fd);
  if (size <= 0) return call;
  line[size] = '\0';
  // "NUMBER ARGUMENT*6 STACK_POINTER PROGRAM_COUNTER", "-1 STACK_POINTER PROGRAM_COUNTER", or "running".
  call.running = strncmp(line, "running", 7) == 0;
  char* next;
  call.number = strtol(line, &next, 10);
  if (next == line) return call;
  if (call.number >= 0)
    for (uint64_t& argument : call.arguments) argument = strtoul(next, &next, 16);
  call.stack_pointer = strtoul(next, &next, 16);
  call.address = strtoul(next, &next, 16);
  call.known = call.address != 0;
  return call;
}

// signal(7) has the list. Writes are not among these: one that was interrupted half-way returns early.
bool SystemCall::goes_on_after_handler() const noexcept {
  switch (number) {
    case SYS_futex: {
      const auto operation = arguments[1] & FUTEX_CMD_MASK;
      return (operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET) && arguments[3] == 0;
    }
    case SYS_wait4:
    case SYS_waitid:
    case SYS_flock:
    case SYS_open:
    case SYS_openat:
      return true;
    case SYS_fcntl:
      return arguments[1] == F_SETLKW || arguments[1] == F_OFD_SETLKW;
    case SYS_read:
    case SYS_readv:
    case SYS_accept:
    case SYS_accept4:
      return reads_without_limit(arguments[0]);
    case SYS_recvfrom:
      return !(arguments[3] & MSG_WAITALL) && reads_without_limit(arguments[0]);
    case SYS_recvmsg:
      return !(arguments[2] & MSG_WAITALL) && reads_without_limit(arguments[0]);
    default:
      return false;
  }
}

}  // namespace weft::engine::dump
