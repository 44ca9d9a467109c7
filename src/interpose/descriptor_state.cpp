#include "interpose/descriptor_state.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/time.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "fiber/sys.hpp"

namespace weft::engine::interpose {

namespace {

// Options that most programs never set: one bit each, so that those do not pay for asking.
constexpr uint32_t kLooked = 1;  // sockets that were there before us have been looked at
constexpr uint32_t kTimeLimits = 2, kLowWater = 4;
constinit std::atomic<uint32_t> g_in_use{0};

// The option numbers whose timeval has 64-bit seconds everywhere; on x86-64 they mean the same.
constexpr int kReceiveTimeoutNew = 66, kSendTimeoutNew = 67;

long get_option(int fd, int option, void* value, socklen_t size) noexcept {
  return sys::call(SYS_getsockopt, fd, SOL_SOCKET, option, value, &size);
}

Nanos time_limit(int fd, int option) noexcept {
  timeval limit{};
  if (get_option(fd, option, &limit, sizeof limit) < 0) return kNever;
  if (limit.tv_sec == 0 && limit.tv_usec == 0) return kNever;
  return later(to_nanos(timespec{limit.tv_sec, 0}), limit.tv_usec * kMicrosecond);
}

int low_water(int fd) noexcept {
  int bytes = 1;
  return get_option(fd, SO_RCVLOWAT, &bytes, sizeof bytes) < 0 ? 1 : bytes;
}

void look_at(int fd) noexcept {
  uint32_t found = 0;
  if (time_limit(fd, SO_RCVTIMEO) != kNever || time_limit(fd, SO_SNDTIMEO) != kNever) found |= kTimeLimits;
  if (low_water(fd) > 1) found |= kLowWater;
  if (found) g_in_use.fetch_or(found, std::memory_order_relaxed);
}

// Sockets may be older than the routing of setsockopt: inherited, or the program was patched late.
void look_at_all() noexcept {
  const long directory = sys::call(SYS_open, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) {
    g_in_use.fetch_or(kLooked | kTimeLimits | kLowWater, std::memory_order_relaxed);
    return;
  }
  alignas(dirent64) char entries[4096];
  for (long size; (size = sys::call(SYS_getdents64, directory, entries, sizeof entries)) > 0;) {
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const dirent64*>(entries + at);
      at += entry->d_reclen;
      if (entry->d_name[0] != '.') look_at(atoi(entry->d_name));
    }
  }
  sys::call(SYS_close, directory);
  g_in_use.fetch_or(kLooked, std::memory_order_relaxed);
}

uint32_t in_use() noexcept {
  if (!(g_in_use.load(std::memory_order_relaxed) & kLooked)) [[unlikely]]
    look_at_all();
  return g_in_use.load(std::memory_order_relaxed);
}

// The descriptors of a message, whose control data the kernel has written.
template <typename Visit>
void for_each_descriptor(const msghdr& message, Visit&& visit) noexcept {
  const auto* control = static_cast<const char*>(message.msg_control);
  size_t left = message.msg_controllen;
  while (control && left >= sizeof(cmsghdr)) {
    cmsghdr header;
    memcpy(&header, control, sizeof header);
    if (header.cmsg_len < sizeof header || header.cmsg_len > left) return;
    if (header.cmsg_level == SOL_SOCKET && header.cmsg_type == SCM_RIGHTS) {
      for (size_t at = CMSG_LEN(0); at + sizeof(int) <= header.cmsg_len; at += sizeof(int)) {
        int fd;
        memcpy(&fd, control + at, sizeof fd);
        visit(fd);
      }
    }
    const size_t step = CMSG_ALIGN(header.cmsg_len);
    if (step >= left) return;
    control += step;
    left -= step;
  }
}

}  // namespace

int is_nonblocking(int fd) noexcept {
  const long flags = sys::call(SYS_fcntl, fd, F_GETFL);
  return flags < 0 ? static_cast<int>(flags) : (flags & O_NONBLOCK) != 0;
}

int socket_option(int fd, int option) noexcept {
  int value = 0;
  const long error = get_option(fd, option, &value, sizeof value);
  return error < 0 ? static_cast<int>(error) : value;
}

Nanos socket_time_limit(int fd, short events) noexcept {
  if (!(in_use() & kTimeLimits)) [[likely]]
    return kNever;
  return time_limit(fd, events & POLLOUT ? SO_SNDTIMEO : SO_RCVTIMEO);
}

size_t receive_low_water(int fd) noexcept {
  if (!(in_use() & kLowWater)) [[likely]]
    return 1;
  return static_cast<size_t>(low_water(fd));
}

void note_socket_option(int level, int option) noexcept {
  if (level != SOL_SOCKET) return;
  uint32_t used = 0;
  if (option == SO_RCVTIMEO || option == SO_SNDTIMEO || option == kReceiveTimeoutNew ||
      option == kSendTimeoutNew)
    used = kTimeLimits;
  else if (option == SO_RCVLOWAT)
    used = kLowWater;
  if (used && !(g_in_use.load(std::memory_order_relaxed) & used))
    g_in_use.fetch_or(used, std::memory_order_relaxed);
}

void note_received_sockets(const msghdr& message) noexcept {
  for_each_descriptor(message, [](int fd) { look_at(fd); });
}

bool has_descriptors(const msghdr& message) noexcept {
  bool found = false;
  for_each_descriptor(message, [&](int) { found = true; });
  return found;
}

}  // namespace weft::engine::interpose
