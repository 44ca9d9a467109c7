// LeakTrial: from the figures of a process after runs of a function, whether the function leaks.
#pragma once

#include <array>
#include <cstdint>

#include "leaks/slope.hpp"
#include "weft/detail/leaks.hpp"

namespace weft::detail {

/// A sequential test. The caller runs the function next_calls() times, takes the figures, and add()s them, as
/// long as the verdict is kUndecided. How it decides stands in the source. One thread at a time.
class LeakTrial {
 public:
  explicit LeakTrial(const LeakLimits& limits) noexcept;

  /// Once, with the figures after the warm-up.
  void start(const LeakLevels& levels) noexcept { points_[0] = {0, levels}; }

  uint64_t next_calls() const noexcept;
  /// `calling`: seconds that the calls took; `seconds`: with taking the figures.
  LeakVerdict add(uint64_t calls, double calling, double seconds, const LeakLevels& levels) noexcept;

  LeakVerdict verdict() const noexcept { return verdict_; }
  /// Was the verdict given because time, memory or runs were used up?
  bool was_cut_short() const noexcept { return cut_short_; }
  double seconds_limit() const noexcept { return limits_.seconds; }
  double seconds_per_call() const noexcept {
    return calls_ == 0 ? 0 : calling_ / static_cast<double>(calls_);
  }
  double memory_limit() const noexcept { return limits_.memory; }
  int runs() const noexcept { return runs_; }
  uint64_t calls() const noexcept { return calls_; }
  /// After run `run`; 0 is the start.
  double calls_at(int run) const noexcept { return point(run).calls; }
  double level_at(int run, LeakMetric metric) const noexcept { return level(run, metric); }
  /// What is known of one figure; with less than eight runs its bounds are infinite.
  LeakGrowth growth(LeakMetric metric) const noexcept;

 private:
  struct Point {
    double calls;  // since the start
    LeakLevels levels;
  };

  const Point& point(int i) const noexcept { return points_[static_cast<size_t>(i)]; }
  double level(int i, LeakMetric metric) const noexcept {
    return point(i).levels[static_cast<size_t>(metric)];
  }
  double rise(int run, LeakMetric metric) const noexcept {
    return level(run, metric) - level(run - 1, metric);
  }
  double calls_of(int run) const noexcept { return point(run).calls - point(run - 1).calls; }
  double rate(int run, LeakMetric metric) const noexcept { return rise(run, metric) / calls_of(run); }
  int first_of_window() const noexcept;
  double tolerance(LeakMetric metric) const noexcept;
  double floor_of(LeakMetric metric) const noexcept;
  bool rose(int run, LeakMetric metric) const noexcept { return rate(run, metric) > tolerance(metric); }
  bool rose_lately(LeakMetric metric, int runs) const noexcept;
  bool is_still(LeakMetric metric) const noexcept;
  bool leaks(LeakMetric metric) noexcept;
  int laggards(LeakMetric metric, const LeakGrowth& seen) const noexcept;
  bool leaks_as_far_as_seen(LeakMetric metric) const noexcept;
  bool is_clean(LeakMetric metric) const noexcept;
  double grown() const noexcept;
  double calls_left() const noexcept;
  bool out_of_budget() const noexcept;
  LeakVerdict decide() noexcept;

  LeakLimits limits_;
  std::array<Point, leaks::kMostPoints> points_;
  LeakLevels probe_{};  // after the first call
  int runs_ = 0;
  uint64_t calls_ = 0;
  std::array<uint64_t, kLeakMetrics>
      suspected_{};  // how many calls there were when a figure first seemed to leak
  double calling_ = 0, seconds_ = 0;
  LeakVerdict verdict_ = LeakVerdict::kUndecided;
  bool cut_short_ = false;
};

}  // namespace weft::detail
