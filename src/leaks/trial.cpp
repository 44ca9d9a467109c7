// How it decides.
//
// A function leaks if what it leaves behind keeps pace with the calls. So the runs become longer, each half
// as long again, and every figure is looked at as a series of points: calls so far, level. Of noise, of what
// is allocated once, of a cache that fills, the share in the growth fades as the calls become more; that of a
// leak does not.
//
// A figure leaks if, over the points of the last two thirds of the runs (the first third is warm-up, too;
// eight points at least),
// - the lower bound of its slope is above the tolerance, once the greatest quarter of the rises is taken
//   down to the median: so no single rise, as of a table that doubles, makes a trend;
// - it goes on as it began: the later half's slope is at least kPace of the former half's. What fills up
//   becomes slower;
// - that is so again after kAgain times the calls, unless each run had its share: noise that lasts for
//   several runs, as that of a large cache, looks like a trend for a while.
// What the allocator tells beside counted allocations (arenas) has blocks in it that threads keep for reuse;
// it is there for allocations that no slot leads to, and a byte a call is none there. What the kernel tells
// (uss, rss, vms) comes in pages and moves for reasons of its own: there each run must have risen besides.
//
// The function is clean as soon as no figure says otherwise: it did not move in the last runs, or the upper
// bound of its slope is below what matters (Traits: half of 16 bytes lost in every hundredth call). Figures
// that neither leak nor are clean want more and longer runs, until time or memory are used up. Then a figure
// leaks whose lower bound says so and to which three quarters of the runs added their share; and without the
// runs for bounds, one that rose in all of them and did not slow down.
#include "leaks/trial.hpp"

#include <algorithm>
#include <limits>
#include <new>

namespace weft::detail {

namespace {

using leaks::kMostPoints;
using leaks::Slope;
using leaks::slope_of;

constexpr double kError = 1e-4;
constexpr int kWindow = 8;     // points without which there are no bounds of that error
constexpr int kStillRuns = 4;  // after the first, which may still warm up
constexpr double kPace = 0.6;
constexpr double kStep = 1.5;
constexpr uint64_t kAgain = 2;
constexpr int kLeast = 3;  // runs without which nothing can be said
constexpr double kPage = 4096;

struct Traits {
  bool coarse;     // the kernel's
  double matters;  // growth per call that is to be found
  double least =
      0;  // growth per call that may be something else than a leak: fragments, blocks kept for reuse
};
constexpr std::array<Traits, kLeakMetrics> kTraits{{
    {false, 0.08},   // kHeap
    {false, 20},     // kMmap
    {false, 0.005},  // kBlocks
    {false, 0.005},  // kPython
    {false, 20},     // kMapped
    {true, 0, 16},   // kUss
    {true, 0, 16},   // kRss
    {true, 0, 16},   // kVms
    {false, 8, 4},   // kArenas
}};
const Traits& traits(LeakMetric metric) noexcept {
  return kTraits[static_cast<size_t>(metric)];
}

template <typename Holds>
bool any_metric(Holds&& holds) noexcept {
  for (size_t i = 0; i < kLeakMetrics; ++i)
    if (holds(static_cast<LeakMetric>(i))) return true;
  return false;
}

// step + step^2 + ... + step^count
double sum_of_powers(double step, int count) noexcept {
  double sum = 0;
  for (int i = 0; i < count; ++i) sum = (sum + 1) * step;
  return sum;
}

// Takes the greatest quarter of the rises per call down to the median, and adds them up again.
void lower_greatest(std::span<const double> calls, std::span<double> levels) noexcept {
  std::array<double, kMostPoints> rates{}, sorted{};
  const size_t rises = levels.size() - 1;
  for (size_t i = 0; i < rises; ++i)
    sorted[i] = rates[i] = (levels[i + 1] - levels[i]) / (calls[i + 1] - calls[i]);
  std::sort(sorted.begin(), sorted.begin() + static_cast<ptrdiff_t>(rises));
  const double middle = sorted[rises / 2];
  const double greatest = sorted[rises - 1 - rises / 4];
  for (size_t i = 0; i < rises; ++i)
    levels[i + 1] = levels[i] + (rates[i] > greatest ? middle : rates[i]) * (calls[i + 1] - calls[i]);
}

}  // namespace

LeakTrial::LeakTrial(const LeakLimits& limits) noexcept : limits_(limits) {
  // Each leaves a point, and noise wants some more.
  limits_.runs = std::min(limits_.runs, static_cast<int>(kMostPoints) - 8);
}

double LeakTrial::tolerance(LeakMetric metric) const noexcept {
  return limits_.tolerance[static_cast<size_t>(metric)] / static_cast<double>(limits_.times);
}

// Growth per call that is no leak.
double LeakTrial::floor_of(LeakMetric metric) const noexcept {
  return std::max(tolerance(metric), traits(metric).least);
}

double LeakTrial::grown() const noexcept {
  const LeakLevels& present = runs_ == 0 ? probe_ : point(runs_).levels;
  const auto since_start = [&](LeakMetric metric) {
    return present[static_cast<size_t>(metric)] - level(0, metric);
  };
  return std::max({since_start(LeakMetric::kRss),
                   since_start(LeakMetric::kHeap) + since_start(LeakMetric::kMmap),
                   since_start(LeakMetric::kMapped)});
}

// How many calls more time and memory allow, as far as can be told.
double LeakTrial::calls_left() const noexcept {
  const auto done = static_cast<double>(calls_);
  double left = std::numeric_limits<double>::infinity();
  if (calling_ > 0) {
    const double looking = (seconds_ - calling_) / (runs_ + 1) * std::max(kWindow - runs_, 1);
    left = (limits_.seconds - seconds_ - looking) * done / calling_;
  }
  if (grown() > limits_.memory / 512) left = std::min(left, (limits_.memory - grown()) * done / grown());
  return std::max(left, 0.0);
}

uint64_t LeakTrial::next_calls() const noexcept {
  // One call tells how slow and how large they are.
  if (calls_ == 0) return 1;
  // In the runs asked for as many calls as ten runs have, however many they are; on by kStep after these.
  const int planned = std::max(limits_.runs, kWindow);
  const double left = calls_left();
  const int wanted = planned - runs_;
  double calls;
  if (runs_ == 0) {
    calls = std::min(static_cast<double>(limits_.times - 1), left / kWindow);
  } else if (const double last = calls_of(runs_); wanted <= 0) {
    calls = std::min(kStep * last, left);
  } else {
    // The steepest ascent of which all runs find room in what is left; if none, all alike.
    double step = kStep;
    while (step > 1 && (last * sum_of_powers(step, wanted) > left ||
                        sum_of_powers(step, planned - 1) > sum_of_powers(kStep, kWindow + 1)))
      step -= 0.01;
    calls = step > 1 ? step * last : std::min(last, left / wanted);
    // Without kLeast of them nothing could be said, so they may cost what is not left.
    if (runs_ < kLeast) calls = std::max(calls, last / 4);
  }
  return static_cast<uint64_t>(std::max(calls, 1.0));
}

LeakVerdict LeakTrial::add(uint64_t calls, double calling, double seconds,
                           const LeakLevels& levels) noexcept {
  const bool first = calls_ == 0;
  calls_ += calls;
  calling_ += calling;
  seconds_ += seconds;
  if (first && limits_.times > 1) {
    probe_ = levels;
    return verdict_;
  }
  points_[static_cast<size_t>(++runs_)] = {static_cast<double>(calls_), levels};
  return verdict_ = decide();
}

int LeakTrial::first_of_window() const noexcept {
  return std::max(0, std::min(runs_ + 1 - kWindow, runs_ / 3));
}

LeakGrowth LeakTrial::growth(LeakMetric metric) const noexcept {
  std::array<double, kMostPoints> x, y;
  const int first = first_of_window();
  size_t count = 0;
  for (int i = first; i <= runs_; ++i, ++count) {
    x[count] = point(i).calls;
    y[count] = level(i, metric);
  }
  if (count < 2) return {};
  const std::span<const double> calls(x.data(), count);
  const std::span<double> heights(y.data(), count);
  const double high = slope_of(calls, heights, kError).high;  // as it is: rare large rises are in it
  lower_greatest(calls, heights);
  const Slope all = slope_of(calls, heights, kError);
  LeakGrowth growth{all.estimate, all.low, high};
  const size_t half = count / 2;
  if (half > 0 && count - half > 1) {
    const double former = slope_of(calls.first(half + 1), heights.first(half + 1), kError).estimate;
    const double later = slope_of(calls.subspan(half), heights.subspan(half), kError).estimate;
    growth.slows = later <= floor_of(metric) || later < kPace * former;
  }
  growth.leaks = growth.low > floor_of(metric) && !growth.slows;
  if (traits(metric).coarse)
    growth.leaks = growth.leaks && rose_lately(metric, static_cast<int>(count) - 1) &&
                   level(runs_, metric) - level(first, metric) >= kPage * static_cast<double>(count);
  return growth;
}

bool LeakTrial::rose_lately(LeakMetric metric, int runs) const noexcept {
  for (int i = std::max(1, runs_ - runs + 1); i <= runs_; ++i)
    if (!rose(i, metric)) return false;
  return true;
}

bool LeakTrial::is_still(LeakMetric metric) const noexcept {
  if (runs_ <= kStillRuns) return false;
  double moved = 0, calls = 0;
  for (int i = runs_ - kStillRuns + 1; i <= runs_; ++i) {
    if (rate(i, metric) > floor_of(metric)) return false;
    moved += std::max(-rise(i, metric), 0.0);
    calls += calls_of(i);
  }
  // A level that falls may be noise in which a leak hides; in a few calls a leak may not show.
  return moved <= traits(metric).matters * calls &&
         calls >= std::min(static_cast<double>(kStillRuns * limits_.times), static_cast<double>(calls_) / 2);
}

bool LeakTrial::leaks(LeakMetric metric) noexcept {
  uint64_t& since = suspected_[static_cast<size_t>(metric)];
  if (runs_ < limits_.runs) return false;
  const LeakGrowth seen = growth(metric);
  if (!seen.leaks) {
    since = 0;
    return false;
  }
  if (since == 0) since = calls_;
  return laggards(metric, seen) == 0 || calls_ >= kAgain * since;
}

// How many runs added less than half their share.
int LeakTrial::laggards(LeakMetric metric, const LeakGrowth& seen) const noexcept {
  int count = 0;
  for (int i = first_of_window(); i < runs_; ++i) count += rate(i + 1, metric) < seen.estimate / 2;
  return count;
}

// Without time for the points that bounds need.
bool LeakTrial::leaks_as_far_as_seen(LeakMetric metric) const noexcept {
  const LeakGrowth seen = growth(metric);
  if (runs_ + 1 >= kWindow) return seen.leaks && laggards(metric, seen) <= (runs_ - first_of_window()) / 4;
  return runs_ >= kLeast && rose_lately(metric, runs_) && !seen.slows;
}

bool LeakTrial::is_clean(LeakMetric metric) const noexcept {
  if (traits(metric).coarse) {
    if (runs_ < limits_.runs) return runs_ > kStillRuns && !rose_lately(metric, kStillRuns);
    return !growth(metric).leaks;
  }
  if (is_still(metric)) return true;
  return runs_ + 1 >= kWindow && growth(metric).high < std::max(tolerance(metric), traits(metric).matters);
}

bool LeakTrial::out_of_budget() const noexcept {
  if (runs_ + 1 >= static_cast<int>(kMostPoints)) return true;
  if (runs_ < kLeast) return false;
  // A run much shorter than those before tells nothing new.
  const double least = runs_ + 1 >= kWindow ? calls_of(runs_) / 2 : 1;
  return calls_left() < least;
}

LeakVerdict LeakTrial::decide() noexcept {
  if (any_metric([this](LeakMetric metric) { return leaks(metric); })) return LeakVerdict::kLeaks;
  if (!any_metric([this](LeakMetric metric) { return !is_clean(metric); })) return LeakVerdict::kClean;
  if (!out_of_budget()) return LeakVerdict::kUndecided;
  cut_short_ = true;
  const bool leak = any_metric([this](LeakMetric metric) { return leaks_as_far_as_seen(metric); });
  return leak ? LeakVerdict::kLeaks : LeakVerdict::kClean;
}

LeakTrial* make_leak_trial(const LeakLimits& limits) noexcept {
  return new (std::nothrow) LeakTrial(limits);
}
void start_leak_trial(LeakTrial& trial, const LeakLevels& levels) noexcept {
  trial.start(levels);
}
void drop_leak_trial(LeakTrial* trial) noexcept {
  delete trial;
}
uint64_t next_leak_calls(const LeakTrial& trial) noexcept {
  return trial.next_calls();
}
LeakVerdict add_leak_run(LeakTrial& trial, uint64_t calls, double calling, double seconds,
                         const LeakLevels& levels) noexcept {
  return trial.add(calls, calling, seconds, levels);
}
LeakGrowth leak_growth(const LeakTrial& trial, LeakMetric metric) noexcept {
  return trial.growth(metric);
}
int leak_runs(const LeakTrial& trial) noexcept {
  return trial.runs();
}
uint64_t leak_calls(const LeakTrial& trial) noexcept {
  return trial.calls();
}
bool leak_trial_was_cut_short(const LeakTrial& trial) noexcept {
  return trial.was_cut_short();
}

}  // namespace weft::detail
