// LeakCheck: does a function leave memory, descriptors, threads, fibers, processes or files behind?
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <concepts>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "weft/detail/leaks.hpp"
#include "weft/error.hpp"
#include "weft/heap.hpp"

namespace weft::heap {

/// What a function may leave behind besides memory.
enum class Resource : uint8_t {
  kDescriptor,  ///< open
  kThread,      ///< of the OS, running
  kFiber,       ///< not ended
  kProcess,     ///< a child, running or not waited for
  kFile,        ///< this user's in $TMPDIR, or /tmp
  kSegment,     ///< of shared memory: in /dev/shm, or of System V and made by this process
};

/// What LeakCheck tells after each run of calls.
struct LeakProgress {
  int runs;
  uint64_t calls;
  const std::string& line;  ///< what grew in this run
};

/// A value; checked when a LeakCheck is made of it.
struct LeakOptions {
  int warm_up = 10;      ///< calls before anything is measured
  uint64_t times = 200;  ///< calls in the first run; those after it are longer
  int runs = 10;         ///< after which growth is a leak; more where that is not certain
  size_t tolerance = 0;  ///< bytes that `times` calls may leave
  std::chrono::duration<double> limit = std::chrono::seconds(10);  ///< for all runs
  size_t memory_limit = 256 << 20;                                 ///< bytes that the process may grow by
  /// In which one call has to return. If it does not, standard error is told so, once; a call cannot be
  /// ended.
  std::chrono::duration<double> call_limit = std::chrono::seconds(60);
  bool memory = true;  ///< check it
  bool search = true;  ///< where memory leaks, run it some more to find out which code allocates what is lost
  /// Which of these to check, by calling once, and twice more if something was left.
  std::vector<Resource> resources{Resource::kDescriptor, Resource::kThread, Resource::kFiber,
                                  Resource::kProcess,    Resource::kFile,   Resource::kSegment};
  /// Called after each run of the check of memory; what it keeps counts as the function's. What it throws
  /// ends the check.
  std::function<void(const LeakProgress&)> progress;
};

/// What was found. A value.
class LeakReport {
 public:
  bool leaks() const noexcept { return !text_.empty(); }
  /// What leaks, how much a call, run by run, with bounds; or what was left open. Empty: nothing.
  const std::string& text() const noexcept { return text_; }
  /// The growth over the calls as an SVG document; empty where memory was not looked at.
  const std::string& svg() const noexcept { return svg_; }
  /// In all runs.
  uint64_t calls() const noexcept { return calls_; }
  /// Time or memory were used up before it was certain: what was seen until then decided.
  bool uncertain() const noexcept { return uncertain_; }
  /// Allocations were counted as they were made. Else the allocator's own figures had to do, which have what
  /// threads keep for reuse in them.
  bool exact() const noexcept { return exact_; }

 private:
  friend class LeakCheck;

  std::string text_, svg_;
  uint64_t calls_ = 0;
  bool uncertain_ = false, exact_ = false;
};

namespace detail {

using namespace weft::detail;

struct DropCensus {
  void operator()(LeakCensus* census) const noexcept { drop_leak_census(census); }
};
using Census = std::unique_ptr<LeakCensus, DropCensus>;
struct DropTrial {
  void operator()(LeakTrial* trial) const noexcept { drop_leak_trial(trial); }
};

/// Counts allocations while it lives.
class LeakWatch {
 public:
  LeakWatch() : error_(begin_leak_watch()) {
    if (error_ == ENOMEM) throw std::bad_alloc();
    if (error_ == EXDEV) throw NotSupported(weft::detail::heap_refusal());
  }
  ~LeakWatch() {
    if (counting()) end_leak_watch();
  }
  LeakWatch(const LeakWatch&) = delete;
  LeakWatch& operator=(const LeakWatch&) = delete;
  bool counting() const noexcept { return error_ == 0; }

 private:
  int error_;
};

/// Tells standard error of a call that does not return, while it lives.
class LeakAlarmScope {
 public:
  explicit LeakAlarmScope(std::chrono::duration<double> limit)
      : alarm_(start_leak_alarm(leak_limit(limit.count()), &LeakAlarmScope::tell, this)),
        seconds_(limit.count()),
        pid_(getpid()) {}
  ~LeakAlarmScope() {
    if (getpid() == pid_) stop_leak_alarm(alarm_);
  }
  LeakAlarmScope(const LeakAlarmScope&) = delete;
  LeakAlarmScope& operator=(const LeakAlarmScope&) = delete;

  /// One call, however it ends.
  class Call {
   public:
    explicit Call(const LeakAlarmScope& scope) noexcept : alarm_(scope.alarm_) { touch_leak_alarm(alarm_); }
    ~Call() { touch_leak_alarm(alarm_); }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    LeakAlarm* const alarm_;
  };

 private:
  static void tell(void* who) {
    char text[160];
    const int size = std::snprintf(text, sizeof text,
                                   "weft::heap::LeakCheck: a call has not returned for %g s "
                                   "(LeakOptions::call_limit); a debugger tells where it is\n",
                                   static_cast<LeakAlarmScope*>(who)->seconds_);
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, static_cast<size_t>(size));
  }

  LeakAlarm* const alarm_;
  const double seconds_;
  const pid_t pid_;
};

inline const char* name_of(Resource resource, bool many) {
  constexpr const char* kNames[][2] = {{"descriptor", "descriptors"},
                                       {"OS thread", "OS threads"},
                                       {"fiber", "fibers"},
                                       {"child process", "child processes"},
                                       {"temporary file", "temporary files"},
                                       {"shared-memory segment", "shared-memory segments"}};
  return kNames[static_cast<size_t>(resource)][many];
}

}  // namespace detail

/// Calls a function again and again, and tells whether it leaks.
///
/// First once, looking at what is open and running before and after; what is left then must be left by two
/// further calls too, so that what is made once for all does not count. Then in runs that become longer, with
/// all that is allocated meanwhile counted, on any thread: the function leaks if what it leaves keeps pace
/// with the calls. Noise, steps and caches that fill do not. How that is decided, and how often wrongly:
/// docs/guides/leaks.md.
///
/// What other threads of the program allocate meanwhile counts as the function's. Build types do not matter.
/// Under AddressSanitizer and ThreadSanitizer nothing can be counted: the figures of memory tell little
/// there.
class LeakCheck {
 public:
  /// std::invalid_argument: an option out of range.
  explicit LeakCheck(LeakOptions options = {}) : options_(std::move(options)) {
    const auto require = [](bool holds, const char* what) {
      if (!holds) throw std::invalid_argument(std::string("weft::heap::LeakCheck: ") + what);
    };
    require(options_.warm_up >= 0, "warm_up must be 0 or more");
    require(options_.times >= 1, "times must be 1 or more");
    require(options_.runs >= 1, "runs must be 1 or more");
    require(options_.limit.count() > 0, "limit must be more than 0");
    require(options_.memory_limit > 0, "memory_limit must be more than 0");
    require(options_.call_limit.count() > 0, "call_limit must be more than 0");
  }

  /// Lets through what the function throws. std::system_error: no descriptor is left to look with.
  /// NotSupported: the allocator was replaced half-way. Any thread or fiber; one check at a time in a
  /// process, or each counts the other's.
  template <std::invocable<> Function>
  LeakReport run(Function&& function) const {
    LeakReport report;
    detail::LeakAlarmScope alarm(options_.call_limit);
    auto called = [&] {
      const detail::LeakAlarmScope::Call call(alarm);
      std::invoke(function);
    };
    // What is made once for all, here and there, is made before the first look.
    if (!options_.resources.empty()) check_resources(called, report);
    if (options_.memory && !report.leaks()) check_memory(called, report);
    return report;
  }

 private:
  // What a call leaves, as text by kind.
  template <typename Function>
  std::map<Resource, std::string> left_by(Function& function) const {
    uint32_t mask = 0;
    for (const Resource resource : options_.resources) mask |= 1u << static_cast<unsigned>(resource);
    const auto required = [](detail::LeakCensus* census) {
      if (!census) detail::throw_errno(errno, "weft::heap::LeakCheck: cannot look at what is open");
      return detail::Census(census);
    };
    const detail::Census before = required(detail::take_leak_census(mask));
    std::invoke(function);
    const detail::Census after = required(detail::settle_leak_census(*before, kSettle));
    std::map<Resource, std::string> left;
    for (const Resource resource : options_.resources) {
      const auto kind = static_cast<detail::LeakResource>(resource);
      const size_t had = detail::leak_census_count(*before, kind),
                   has = detail::leak_census_count(*after, kind);
      if (has <= had) continue;
      std::string& text = left[resource];
      text = "a call leaves " + std::to_string(has - had) + ' ' + detail::name_of(resource, has - had > 1) +
             ":\n";
      detail::visit_new_things(*before, *after, kind, &text, [](void* who, const detail::LeakThing& thing) {
        static_cast<std::string*>(who)->append("* ").append(thing.text).append("\n");
      });
    }
    return left;
  }

  template <typename Function>
  void check_resources(Function& function, LeakReport& report) const {
    std::map<Resource, std::string> left = left_by(function);
    for (int i = 1; i < kCalls && !left.empty(); ++i) {
      const auto again = left_by(function);
      std::erase_if(left, [&](const auto& one) { return !again.contains(one.first); });
    }
    for (const auto& [resource, text] : left) report.text_ += text;
  }

  template <typename Function>
  void check_memory(Function& function, LeakReport& report) const {
    for (int i = 0; i < options_.warm_up; ++i) std::invoke(function);
    detail::LeakLimits limits;
    limits.times = options_.times;
    limits.runs = options_.runs;
    limits.seconds = options_.limit.count();
    limits.memory = static_cast<double>(options_.memory_limit);
    limits.tolerance = detail::leak_tolerance(static_cast<double>(options_.tolerance));

    const detail::LeakWatch watch;
    detail::LeakLevels levels;
    const auto look = [&] { detail::take_leak_levels(levels, watch.counting()); };
    const std::unique_ptr<detail::LeakTrial, detail::DropTrial> trial(detail::make_leak_trial(limits));
    if (!trial) throw std::bad_alloc();
    look();
    detail::start_leak_trial(*trial, levels);
    detail::LeakVerdict verdict = detail::LeakVerdict::kUndecided;
    while (verdict == detail::LeakVerdict::kUndecided) {
      const uint64_t calls = detail::next_leak_calls(*trial);
      const auto start = std::chrono::steady_clock::now();
      const auto took = [&] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      };
      for (uint64_t i = 0; i < calls; ++i) std::invoke(function);
      const double calling = took();
      look();
      verdict = detail::add_leak_run(*trial, calls, calling, took(), levels);
      if (options_.progress) tell_progress(*trial);
    }
    report.calls_ = detail::leak_calls(*trial);
    report.exact_ = watch.counting();
    report.uncertain_ = detail::leak_trial_was_cut_short(*trial);
    report.svg_ = detail::leak_text([&](char* text, size_t room) {
      return detail::leak_growth_svg(*trial, "Growth over the calls", text, room);
    });
    if (verdict != detail::LeakVerdict::kLeaks) return;
    report.text_ = "memory grows with the calls\n";
    report.text_ +=
        detail::leak_text([&](char* text, size_t room) { return detail::leak_table(*trial, text, room); });
    report.text_ += search(function, *trial);
  }

  void tell_progress(const detail::LeakTrial& trial) const {
    const int runs = detail::leak_runs(trial);
    if (runs == 0) return;  // that was a single call, to see how long it takes
    const std::string line = detail::leak_text(
        [&](char* text, size_t room) { return detail::leak_run_line(trial, runs, text, room); });
    options_.progress({runs, detail::leak_calls(trial), line});
  }

  // Where it comes from; "" where that cannot be told.
  template <typename Function>
  std::string search(Function& function, const detail::LeakTrial& trial) const {
    const uint64_t calls = detail::leak_search_calls(trial);
    if (!options_.search || detail::begin_leak_search() != 0) return {};
    struct End {
      ~End() { detail::end_leak_search(); }
    } const end;
    const auto start = std::chrono::steady_clock::now();
    detail::mark_leak_search();
    for (int run = 0;
         run < detail::kLeakSearchRuns && std::chrono::steady_clock::now() - start < options_.limit / 4;
         ++run) {
      for (uint64_t i = 0; i < calls; ++i) std::invoke(function);
      detail::mark_leak_search();
    }
    std::string text(kMostText, '\0');
    text.resize(std::min(detail::leak_search_text(calls, text.data(), text.size() + 1), kMostText));
    return text;
  }

  static constexpr size_t kMostText = 16384;
  static constexpr detail::Nanos kSettle = 200'000'000;
  static constexpr int kCalls = 3;

  LeakOptions options_;
};

}  // namespace weft::heap
