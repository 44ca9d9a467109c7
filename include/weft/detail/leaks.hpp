// What weft's leak tests are made of. Promises nothing to programs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string>

#include "weft/detail/core.hpp"

namespace weft::detail {

/// A figure of the process that a leak makes grow.
enum class LeakMetric : uint8_t {
  kHeap,    ///< bytes of allocations that lie in heaps
  kMmap,    ///< bytes of allocations that have a mapping of their own
  kBlocks,  ///< allocations
  kPython,  ///< blocks of CPython's own allocator
  kMapped,  ///< bytes mapped by mmap(), CPython's arenas left out
  kUss,     ///< bytes of memory that is the process's alone
  kRss,     ///< bytes of memory
  kVms,     ///< bytes of address space
  kArenas,  ///< where allocations are counted: what the allocator itself tells of its heaps
};
inline constexpr size_t kLeakMetrics = 9;
using LeakLevels = std::array<double, kLeakMetrics>;

enum class LeakVerdict : uint8_t { kUndecided, kClean, kLeaks };

struct LeakLimits {
  uint64_t times = 200;       ///< calls in the first run
  int runs = 10;              ///< before a leak is told of
  double seconds = 10;        ///< for all runs
  double memory = 256 << 20;  ///< bytes that it may grow by
  LeakLevels tolerance{};     ///< growth in `times` calls that is no leak
};

/// What `bytes` in `times` calls allow each figure: a block has 16 bytes at least.
inline LeakLevels leak_tolerance(double bytes) noexcept {
  LeakLevels tolerance;
  tolerance.fill(bytes);
  tolerance[static_cast<size_t>(LeakMetric::kBlocks)] = tolerance[static_cast<size_t>(LeakMetric::kPython)] =
      bytes / 16;
  return tolerance;
}

/// Growth per call: as it seems, and what it is at least and at most.
struct LeakGrowth {
  double estimate = 0, low = 0, high = 0;
  bool slows = false;  ///< it was clearly faster in the beginning: what fills up
  bool leaks = false;
};

/// A sequential test of one function. The caller runs the function next_leak_calls() times, takes the levels,
/// and adds them, as long as the verdict is kUndecided. One thread at a time.
class LeakTrial;
/// Null: no memory. REQUIRES: times and runs are 1 or more.
WEFT_API LeakTrial* make_leak_trial(const LeakLimits& limits) noexcept;
/// Once, with the levels after the warm-up.
WEFT_API void start_leak_trial(LeakTrial& trial, const LeakLevels& levels) noexcept;
WEFT_API void drop_leak_trial(LeakTrial* trial) noexcept;
WEFT_API uint64_t next_leak_calls(const LeakTrial& trial) noexcept;
/// `calling`: seconds that the calls took; `seconds`: with taking the levels.
WEFT_API LeakVerdict add_leak_run(LeakTrial& trial, uint64_t calls, double calling, double seconds,
                                  const LeakLevels& levels) noexcept;
/// With less than eight levels the bounds are infinite.
WEFT_API LeakGrowth leak_growth(const LeakTrial& trial, LeakMetric metric) noexcept;
/// Time, memory or runs were used up before it was certain.
WEFT_API bool leak_trial_was_cut_short(const LeakTrial& trial) noexcept;

WEFT_API int leak_runs(const LeakTrial& trial) noexcept;
WEFT_API uint64_t leak_calls(const LeakTrial& trial) noexcept;
// Each writes what fits, with a NUL, and returns how many characters there are without it; 0: no memory.
/// `run`: from 1 on. The line has no end.
WEFT_API size_t leak_run_line(const LeakTrial& trial, int run, char* text, size_t room) noexcept;
/// All lines, and for each figure that leaks how much it grew per call.
WEFT_API size_t leak_table(const LeakTrial& trial, char* text, size_t room) noexcept;
/// The growth over the calls as an SVG document.
WEFT_API size_t leak_growth_svg(const LeakTrial& trial, const char* title, char* text, size_t room) noexcept;

/// What one of them writes: leak_text([&](char* text, size_t room) { return leak_table(trial, text, room);
/// }). Throws std::bad_alloc.
template <typename Write>
std::string leak_text(Write&& write) {
  std::string text(write(nullptr, size_t{0}), '\0');
  if (text.empty()) throw std::bad_alloc();
  write(text.data(), text.size() + 1);
  return text;
}

/// Begins to count allocations, for levels that are exact; nests. ENOTSUP: they cannot be counted, the
/// allocator's own figures have to do; EXDEV: these are wrong, too, since it was replaced half-way, as
/// heap_refusal() tells; ENOMEM; or 0.
WEFT_API int begin_leak_watch() noexcept;
WEFT_API void end_leak_watch() noexcept;
/// What CPython's own allocator has: it takes arenas from mmap() and gives out blocks.
struct InterpreterLevels {
  double blocks = 0;  ///< in use
  double held = 0;    ///< bytes of its arenas
};
/// `counting`: begin_leak_watch() returned 0. Allocates nothing; reads two files of /proc, about 0.2 ms with
/// a few hundred mappings.
WEFT_API void take_leak_levels(LeakLevels& levels, bool counting,
                               const InterpreterLevels& interpreter = {}) noexcept;

// --- Where a leak comes from: the function is run some more, kLeakSearchRuns times leak_search_calls(), with
// every allocation sampled, and marked before and after each.

inline constexpr int kLeakSearchRuns = 6;
/// So many that some blocks are lost in them, but, as far as can be told, in all runs in a quarter of the
/// time and the memory allowed.
WEFT_API uint64_t leak_search_calls(const LeakTrial& trial) noexcept;
/// 0 or an errno, as heap_profile_begin(): EALREADY: the program itself is being profiled.
WEFT_API int begin_leak_search() noexcept;
WEFT_API void mark_leak_search() noexcept;
WEFT_API void end_leak_search() noexcept;
/// The stacks whose blocks grew from mark to mark, `calls` apart, as leak_table(); "": none did, or no
/// memory.
WEFT_API size_t leak_search_text(uint64_t calls, char* text, size_t room) noexcept;

/// Of a time limit; what is longer than 292 years is that.
inline Nanos leak_limit(double seconds) noexcept {
  return seconds < 9e9 ? static_cast<Nanos>(seconds * 1e9) : Nanos{INT64_MAX};
}
/// Tells of a function that does not return, on a thread of its own.
class LeakAlarm;
/// late(who) is called once if a call does not return for `limit`, and at most a quarter more. Null: no
/// thread or memory is to be had, and nothing will be told.
WEFT_API LeakAlarm* start_leak_alarm(Nanos limit, void (*late)(void*), void* who) noexcept;
/// A call begins, or has returned, in turns; a few nanoseconds. Null is nothing.
WEFT_API void touch_leak_alarm(LeakAlarm* alarm) noexcept;
/// Waits for late(), if that has begun. Not in a fork child, where there is no thread. Null is nothing.
WEFT_API void stop_leak_alarm(LeakAlarm* alarm) noexcept;

/// What is closed, joined, waited for or removed by whoever made it.
enum class LeakResource : uint8_t {
  kDescriptor,
  kThread,   ///< of the kernel; the engine's own and the kernel's helpers do not count
  kFiber,    ///< not ended; main fibers do not count
  kChild,    ///< a child process, alive or not waited for
  kFile,     ///< in the folder for temporary files
  kSegment,  ///< shared memory: a name in /dev/shm, or a segment of System V made by this process
};
inline constexpr size_t kLeakResources = 6;

struct LeakThing {
  LeakResource resource;
  int64_t number;    ///< descriptor, thread, fiber, process, segment; 0 for what has a name
  const char* path;  ///< of a file, also one that a descriptor is of; else ""
  const char* text;  ///< for people: "fd 7: socket, AF_INET, SOCK_STREAM, 0.0.0.0:80"
};

/// What there is at a time. Immutable, so any thread.
class LeakCensus;
/// Reads /proc: about 10 us, and as much again for every ten descriptors and threads. `resources`: bits by
/// LeakResource; the rest is not counted. Null: no memory, or no descriptor is left (errno).
WEFT_API LeakCensus* take_leak_census(uint32_t resources) noexcept;
WEFT_API void drop_leak_census(LeakCensus* census) noexcept;
WEFT_API size_t leak_census_count(const LeakCensus& census, LeakResource resource) noexcept;
/// What `after` has and `before` has not.
WEFT_API void visit_new_things(const LeakCensus& before, const LeakCensus& after, LeakResource resource,
                               void* who, void (*visit)(void* who, const LeakThing& thing)) noexcept;
/// A census that has no more of anything than `before`, or that of `limit` later: a thread that was joined,
/// or is about to end, stays in the kernel's list for a moment. Sleeps in between; not a cancellation point.
WEFT_API LeakCensus* settle_leak_census(const LeakCensus& before, Nanos limit) noexcept;

}  // namespace weft::detail
