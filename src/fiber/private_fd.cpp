#include "fiber/private_fd.hpp"

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>

#include "fiber/sys.hpp"

namespace weft::engine {

namespace {

constexpr int kSlots = 256;
// A slot holds descriptor + 1; 0 is free.
constinit std::atomic<int> g_slots[kSlots];
constinit std::atomic<int> g_lowest{INT32_MAX};  // no private descriptor is below it

}  // namespace

int make_private_fd(int fd) noexcept {
  if (fd < 0) return fd;
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  // Not higher than this even where the limit is: the kernel's table grows with the highest number.
  const int floor = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1024)) - 64;
  if (floor > fd) {
    const long moved = sys::call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, floor);
    if (moved >= 0) {
      sys::call(SYS_close, fd);
      fd = static_cast<int>(moved);
    }
  }
  // First the bound, then the slot: is_private_fd() looks at them in this order.
  int lowest = g_lowest.load();
  while (fd < lowest && !g_lowest.compare_exchange_weak(lowest, fd)) {
  }
  for (auto& slot : g_slots) {
    int empty = 0;
    if (slot.compare_exchange_strong(empty, fd + 1)) break;
  }
  return fd;
}

void close_private_fd(int fd) noexcept {
  if (fd < 0) return;
  for (auto& slot : g_slots) {
    int taken = fd + 1;
    if (slot.compare_exchange_strong(taken, 0)) break;
  }
  sys::call(SYS_close, fd);
}

bool is_private_fd(int fd) noexcept {
  if (fd < g_lowest.load(std::memory_order_relaxed)) return false;
  for (const auto& slot : g_slots)
    if (slot.load(std::memory_order_relaxed) == fd + 1) return true;
  return false;
}

int next_private_fd(int fd) noexcept {
  int next = INT32_MAX;
  for (const auto& slot : g_slots) {
    const int candidate = slot.load(std::memory_order_relaxed) - 1;
    if (candidate >= fd && candidate < next) next = candidate;
  }
  return next == INT32_MAX ? -1 : next;
}

}  // namespace weft::engine
