#include "interpose/pins.hpp"

#include <dlfcn.h>
#include <sys/resource.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "fiber/carrier.hpp"
#include "fiber/futex_lock.hpp"
#include "fiber/sys.hpp"
#include "fiber/thread_state.hpp"

namespace weft::engine::interpose {

namespace {

// A fixed table, so that counting allocates nothing: what pins is a handful of calls in a handful of places.
struct Row {
  const char* call;
  const void* caller;
  uint64_t count;
  uint64_t total;
  uint64_t longest;
};
constexpr size_t kRows = 512;
constinit FutexLock g_lock;
constinit Row g_rows[kRows]{};
constinit size_t g_used = 0;
constinit std::atomic<uint64_t> g_native_threads{0};

// How often the calling thread has given up its processor by itself.
long voluntary_switches() noexcept {
  rusage usage{};
  sys::call(SYS_getrusage, RUSAGE_THREAD, &usage);
  return usage.ru_nvcsw;
}

}  // namespace

void PinScope::begin(const char* call, const void* caller) noexcept {
  const ThreadState& thread = thread_state();
  if (!thread.carrier) return;
  call_.name = call;
  call_.caller = caller;
  call_.since = monotonic_now();
  blockings_ = voluntary_switches();
  // A vfork child would leave its call behind in its parent's memory.
  if (thread.in_vfork_child) return;
  call_.fiber = &thread.carrier->running();
  thread.carrier->pinned_calls().enter(call_);
}

PinScope::~PinScope() {
  if (call_.since == 0) return;
  if (call_.fiber) call_.fiber->carrier().pinned_calls().leave(call_);
  const Nanos took = monotonic_now() - call_.since;
  // A call that took long without blocking was kept from its processor by other programs.
  if (took < kPinThreshold || voluntary_switches() == blockings_) return;
  const int error = errno;
  {
    Guard guard(g_lock);
    size_t i = 0;
    while (i < g_used && (g_rows[i].caller != call_.caller || strcmp(g_rows[i].call, call_.name) != 0)) ++i;
    if (i == g_used && g_used < kRows) g_rows[g_used++] = {call_.name, call_.caller, 0, 0, 0};
    if (i < g_used) {
      Row& row = g_rows[i];
      ++row.count;
      row.total += static_cast<uint64_t>(took);
      if (static_cast<uint64_t>(took) > row.longest) row.longest = static_cast<uint64_t>(took);
    }
  }
  errno = error;
}

std::vector<Pin> pins() {
  static Row copy[kRows];
  size_t used;
  std::vector<Pin> result;
  Guard guard(g_lock);
  used = g_used;
  memcpy(copy, g_rows, used * sizeof(Row));
  for (size_t i = 0; i < used; ++i) {
    const Row& row = copy[i];
    Dl_info info{};
    const char* library = dladdr(row.caller, &info) && info.dli_fname ? info.dli_fname : "?";
    Pin* same = nullptr;
    for (Pin& pin : result)
      if (pin.call == row.call && pin.library == library) same = &pin;
    if (!same) same = &result.emplace_back(Pin{row.call, library, 0, 0, 0});
    same->count += row.count;
    same->total_ns += row.total;
    if (row.longest > same->longest_ns) same->longest_ns = row.longest;
  }
  return result;
}

void count_native_thread() noexcept {
  g_native_threads.fetch_add(1, std::memory_order_relaxed);
}
uint64_t native_threads() noexcept {
  return g_native_threads.load(std::memory_order_relaxed);
}

}  // namespace weft::engine::interpose
