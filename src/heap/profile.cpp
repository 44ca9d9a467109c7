#include "heap/profile.hpp"

#include <cerrno>

#include "fiber/futex_lock.hpp"
#include "fiber/sys.hpp"
#include "heap/exponential.hpp"
#include "heap/profile_sample.hpp"
#include "heap/profile_stack.hpp"
#include "weft/detail/heap_count.hpp"

// Which allocations are sampled. Samples are a Poisson process over the bytes that are allocated: the
// distance from one to the next is drawn from an exponential distribution, so that it does not matter what
// came before, and a block of s bytes is sampled with the probability p = 1 - exp(-s / interval). A sample
// then stands for 1/p blocks, and the sums are without bias for each site. (tcmalloc, docs/sampling.md; Go,
// runtime/mprof.go and the profiles that pprof scales.)

namespace weft::heap {

namespace {

using engine::FutexLock;
using engine::Guard;

constinit FutexLock g_control;  // begin and end
constinit uint32_t g_sessions = 0;

// Guards the table. What is done with it held allocates nothing.
constinit FutexLock g_lock;

// Never destroyed: allocations are sampled until the process has ended.
union Kept {
  constexpr Kept() noexcept : table() {}
  ~Kept() {}
  ProfileTable table;
};
constinit Kept g_kept;
constinit ProfileTable& g_table = g_kept.table;

// Of the session; read by samples, which a new one may overlap: they are then of neither.
constinit std::atomic<uint64_t> g_interval{0}, g_seed{0};

constinit thread_local int t_paused = 0;  // also while a sample is taken, which may come to malloc() again
// Around fork() this thread holds the locks, and other libraries' handlers may allocate.
constinit thread_local bool t_forks = false;

uint64_t next_random(uint64_t& state) noexcept {  // splitmix64 (S. Vigna)
  uint64_t value = state += 0x9e3779b97f4a7c15;
  value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9;
  value = (value ^ value >> 27) * 0x94d049bb133111eb;
  return value ^ value >> 31;
}

// Bytes up to the next sample, that one not counted.
int64_t draw(CountSlot& slot, uint64_t interval) noexcept {
  if (interval <= 1) return 0;
  const double uniform = (static_cast<double>(next_random(slot.random) >> 11) + 0.5) * 0x1p-53;
  return static_cast<int64_t>(-natural_logarithm(uniform) * static_cast<double>(interval));
}

double weight_of(int64_t bytes, uint64_t interval) noexcept {
  if (interval <= 1) return 1;
  return -1 / exponential_less_one(static_cast<double>(bytes) / static_cast<double>(interval));
}

void count_near(const void* block, int more) noexcept {
  std::atomic<uint8_t>& count = sampled_near(block);
  // By holders of g_lock only. At the limit it stays.
  const uint8_t now = count.load(std::memory_order_relaxed);
  if (now != UINT8_MAX) count.store(static_cast<uint8_t>(now + more), std::memory_order_relaxed);
}

}  // namespace

void* sample(CountSlot& slot, void* block, int64_t bytes, const void* caller) noexcept {
  const uint32_t session = g_session.load(std::memory_order_acquire);
  const uint64_t interval = g_interval.load(std::memory_order_relaxed);
  if (session == 0) return block;
  if (slot.session != session) {
    slot.session = session;
    slot.random = g_seed.load(std::memory_order_relaxed) + slot.number * uint64_t{0x632be59bd9b4e019};
    slot.bytes_until_sample = draw(slot, interval) - bytes;
    if (slot.bytes_until_sample >= 0) return block;
  }
  slot.bytes_until_sample = draw(slot, interval);
  if (t_paused > 0) return block;
  ++t_paused;
  const int error_number = errno;
  {
    const Capture capture(caller);
    PackedFrame frames[2 * Capture::kMost];
    Guard guard(g_lock);
    if (g_session.load(std::memory_order_relaxed) == session) {
      const size_t count = capture.merge(g_table, frames);
      g_table.add(reinterpret_cast<uintptr_t>(block), bytes, weight_of(bytes, interval), frames, count);
      count_near(block, 1);
    }
  }
  errno = error_number;
  --t_paused;
  return block;
}

bool forget_sample(void* block, LiveBlock& sampled) noexcept {
  if (t_forks) return false;  // it stays in the table, until the address is sampled again
  Guard guard(g_lock);
  if (!g_table.take(reinterpret_cast<uintptr_t>(block), sampled)) return false;
  count_near(block, -1);
  return true;
}

void remember_sample(const LiveBlock& sampled) noexcept {
  Guard guard(g_lock);
  g_table.put_back(sampled);
  count_near(reinterpret_cast<const void*>(sampled.block), 1);
}

bool copy_profile(ProfileRecord& record) noexcept {
  Guard guard(g_lock);
  return record.assign(g_table.record());
}

void lock_profile() noexcept {
  g_control.lock();
  g_lock.lock();
  t_forks = true;
  ++t_paused;
}

void unlock_profile() noexcept {
  --t_paused;
  t_forks = false;
  g_lock.unlock();
  g_control.unlock();
}

}  // namespace weft::heap

namespace weft::detail {

using namespace heap;

int heap_profile_begin(size_t interval, uint64_t seed) noexcept {
  Guard guard(g_control);
  if (g_session.load(std::memory_order_relaxed) != 0) return EALREADY;
  if (const int error = heap_count_begin()) return error;
  prepare_capture();
  if (seed == 0) engine::sys::call(SYS_getrandom, &seed, sizeof seed, 0);
  {
    Guard table_guard(g_lock);
    g_table.clear();
    g_table.record().totals.interval = interval == 0 ? 1 : interval;
    for (std::atomic<uint8_t>& count : g_sampled) count.store(0, std::memory_order_relaxed);
    g_interval.store(interval == 0 ? 1 : interval, std::memory_order_relaxed);
    g_seed.store(seed, std::memory_order_relaxed);
    g_session.store(++g_sessions, std::memory_order_release);
  }
  return 0;
}

void heap_profile_end() noexcept {
  Guard guard(g_control);
  {
    Guard table_guard(g_lock);
    if (g_session.exchange(0, std::memory_order_relaxed) == 0) return;
  }
  heap_count_end();
}

uint32_t heap_profile_mark() noexcept {
  heap_counts();  // looks for libraries that have come
  Guard guard(g_lock);
  g_table.mark();
  return g_table.record().totals.marks;
}

HeapProfilePause::HeapProfilePause() noexcept {
  ++t_paused;
}

HeapProfilePause::~HeapProfilePause() {
  --t_paused;
}

}  // namespace weft::detail
