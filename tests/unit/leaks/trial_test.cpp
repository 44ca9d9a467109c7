#include "leaks/trial.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace weft::detail {
namespace {

using Random = std::mt19937_64;

// What a process has, as exactly as it is counted.
struct Process {
  double bytes = 1e6, blocks = 1e4;

  void make(double size) {
    bytes += size;
    ++blocks;
  }
  void free(double size) {
    bytes -= size;
    --blocks;
  }
  LeakLevels levels() const {
    LeakLevels all{};
    all[static_cast<size_t>(LeakMetric::kHeap)] = bytes;
    all[static_cast<size_t>(LeakMetric::kBlocks)] = blocks;
    return all;
  }
};

using Function = std::function<void(Process&)>;
using Maker = std::function<Function(Random&)>;  // a fresh function for each trial

int between(Random& random, int least, int most) {
  return std::uniform_int_distribution<int>(least, most)(random);
}
bool happens(Random& random, double probability) {
  return std::uniform_real_distribution<double>(0, 1)(random) < probability;
}

Function nothing(Random&) {
  return [](Process&) {};
}

// Keeps the last `most` of what it makes, of any sizes.
Maker keeps_last(size_t most) {
  return [most](Random& random) {
    return [most, &random, kept = std::make_shared<std::deque<int>>()](Process& process) {
      kept->push_back(between(random, 16, 1024));
      process.make(kept->back());
      if (kept->size() <= most) return;
      process.free(kept->front());
      kept->pop_front();
    };
  };
}

// Makes one of `count` things that there is not, or frees one that there is.
Maker turns_over(int count) {
  return [count](Random& random) {
    return [count, &random, sizes = std::make_shared<std::vector<int>>(count)](Process& process) {
      int& size = (*sizes)[static_cast<size_t>(between(random, 0, count - 1))];
      if (happens(random, 0.5)) {
        if (size != 0) process.free(size);
        size = 0;
      } else if (size == 0) {
        process.make(size = between(random, 16, 1024));
      }
    };
  };
}

// A cache of `count` things, asked for any of them: it fills, ever more slowly.
Maker caches(int count) {
  return [count](Random& random) {
    return [count, &random, cached = std::make_shared<std::vector<bool>>(count)](Process& process) {
      const auto one = static_cast<size_t>(between(random, 0, count - 1));
      if (!(*cached)[one]) process.make(64);
      (*cached)[one] = true;
    };
  };
}

// A cache that has something new in each call until it is full.
Maker fills(int count) {
  return [count](Random&) {
    return [left = count](Process& process) mutable {
      if (left > 0) process.make(64);
      --left;
    };
  };
}

Maker loses(double size, double probability, Maker beside = nothing) {
  return [=](Random& random) {
    return [=, &random, other = beside(random)](Process& process) {
      other(process);
      if (happens(random, probability)) process.make(size);
    };
  };
}

Maker loses_in_every(int nth, double size) {
  return [=](Random&) {
    return [=, call = 0](Process& process) mutable {
      if (++call % nth == 0) process.make(size);
    };
  };
}

struct Ending {
  LeakVerdict verdict;
  bool cut_short;
  uint64_t calls;
};

Ending try_out(const Function& function, LeakLimits limits = {}, double seconds_per_call = 1e-6) {
  Process process;
  for (int i = 0; i < 10; ++i) function(process);
  LeakTrial trial(limits);
  trial.start(process.levels());
  while (trial.verdict() == LeakVerdict::kUndecided) {
    const uint64_t calls = trial.next_calls();
    for (uint64_t i = 0; i < calls; ++i) function(process);
    const double seconds = static_cast<double>(calls) * seconds_per_call;
    trial.add(calls, seconds, seconds + 0.002, process.levels());
  }
  return {trial.verdict(), trial.was_cut_short(), trial.calls()};
}

int wrong_of(int trials, const Maker& maker, LeakVerdict right) {
  int wrong = 0;
  for (int i = 0; i < trials; ++i) {
    Random random(static_cast<uint64_t>(i));
    wrong += try_out(maker(random)).verdict != right;
  }
  return wrong;
}

// 3,000 of each gave no wrong verdict.
constexpr int kTrials = 60;

struct Case {
  const char* name;
  Maker maker;
};
void PrintTo(const Case& one, std::ostream* stream) {
  *stream << one.name;
}

class CleanFunction : public testing::TestWithParam<Case> {};
TEST_P(CleanFunction, IsFoundClean) {
  EXPECT_EQ(wrong_of(kTrials, GetParam().maker, LeakVerdict::kClean), 0);
}
INSTANTIATE_TEST_SUITE_P(Trial, CleanFunction,
                         testing::Values(Case{"Nothing", nothing}, Case{"KeepsLast128", keeps_last(128)},
                                         Case{"KeepsLast2000", keeps_last(2000)},
                                         Case{"TurnsOver64", turns_over(64)},
                                         Case{"TurnsOver1000", turns_over(1000)},
                                         Case{"Caches1000", caches(1000)}, Case{"Caches10000", caches(10000)},
                                         Case{"Fills1000", fills(1000)}, Case{"Fills10000", fills(10000)}),
                         [](const auto& one) { return std::string(one.param.name); });

class LeakingFunction : public testing::TestWithParam<Case> {};
TEST_P(LeakingFunction, IsFoundOut) {
  EXPECT_EQ(wrong_of(kTrials, GetParam().maker, LeakVerdict::kLeaks), 0);
}
INSTANTIATE_TEST_SUITE_P(
    Trial, LeakingFunction,
    testing::Values(Case{"EveryCall", loses(24, 1)}, Case{"OneIn10", loses(24, 0.1)},
                    Case{"OneIn100", loses(24, 0.01)}, Case{"EveryTenth", loses_in_every(10, 24)},
                    Case{"EveryHundredth", loses_in_every(100, 24)},
                    Case{"EveryHundredthMegabyte", loses_in_every(100, 1 << 20)},
                    Case{"OneIn100BesideACache", loses(24, 0.01, keeps_last(128))},
                    Case{"OneIn100BesideTurnover", loses(24, 0.01, turns_over(64))},
                    Case{"OneIn10BesideMuchTurnover", loses(24, 0.1, turns_over(1000))},
                    Case{"OneIn100BesideMuchTurnover", loses(24, 0.01, turns_over(1000))}),
    [](const auto& one) { return std::string(one.param.name); });

TEST(Trial, IsOverSoonWhereNothingMoves) {
  Random random;
  EXPECT_LT(try_out(nothing(random)).calls, 2700u);  // five runs: 200, 299, 449, 672, 997
}

TEST(Trial, ToleratesWhatItIsTold) {
  Random random;
  LeakLimits limits;
  limits.tolerance[static_cast<size_t>(LeakMetric::kHeap)] = 24 * 200;
  limits.tolerance[static_cast<size_t>(LeakMetric::kBlocks)] = 200;
  EXPECT_EQ(try_out(loses(24, 1)(random), limits).verdict, LeakVerdict::kClean);
  limits.tolerance[static_cast<size_t>(LeakMetric::kHeap)] = 24 * 200 - 1;
  EXPECT_EQ(try_out(loses(24, 1)(random), limits).verdict, LeakVerdict::kLeaks);
}

TEST(Trial, OfASlowFunctionEndsInTime) {
  Random random;
  for (const double seconds : {1e-3, 1e-2, 0.1}) {
    const Ending leaking = try_out(loses(24, 1)(random), {.times = 20}, seconds);
    EXPECT_EQ(leaking.verdict, LeakVerdict::kLeaks) << seconds;
    EXPECT_LE(static_cast<double>(leaking.calls) * seconds, 10.5);
    const Ending clean = try_out(keeps_last(128)(random), {.times = 20}, seconds);
    EXPECT_LE(static_cast<double>(clean.calls) * seconds, 10.5) << seconds;
  }
  EXPECT_EQ(try_out(loses(24, 1)(random), {.times = 1}, 3).verdict, LeakVerdict::kLeaks);
  EXPECT_EQ(try_out(nothing(random), {.times = 1}, 3).verdict, LeakVerdict::kClean);
}

// With the default options the first run alone would take too much.
TEST(Trial, FindsSlowAndLargeLeaksInWhatItMayTake) {
  Random random;
  for (const double seconds : {0.06, 0.5, 3.0})
    EXPECT_EQ(try_out(loses(24, 1)(random), {}, seconds).verdict, LeakVerdict::kLeaks) << seconds;
  for (const double megabytes : {2, 20, 200})
    EXPECT_EQ(try_out(loses(megabytes * (1 << 20), 1)(random)).verdict, LeakVerdict::kLeaks) << megabytes;
  EXPECT_EQ(try_out(nothing(random), {}, 3).verdict, LeakVerdict::kClean);
}

TEST(Trial, LosesNoMoreMemoryThanItMay) {
  Random random;
  const Ending ending = try_out(loses_in_every(1, 1 << 20)(random), {.times = 20});
  EXPECT_EQ(ending.verdict, LeakVerdict::kLeaks);
  EXPECT_LE(ending.calls, 260u);
}

// A step is none, a staircase is one.
TEST(Trial, TakesNoSingleRiseForATrend) {
  for (int at = 0; at < 12; ++at) {
    LeakTrial trial({});
    trial.start({});
    double level = 0;
    for (int run = 0; trial.verdict() == LeakVerdict::kUndecided; ++run) {
      if (run == at) level += 1 << 20;
      LeakLevels levels{};
      levels.fill(level);
      trial.add(trial.next_calls(), 1e-3, 2e-3, levels);
    }
    EXPECT_EQ(trial.verdict(), LeakVerdict::kClean) << at;
  }
}

TEST(Trial, FindsALeakInAnyFigure) {
  for (size_t metric = 0; metric < kLeakMetrics; ++metric) {
    LeakTrial trial({.memory = 1e12});
    trial.start({});
    LeakLevels levels{};
    while (trial.verdict() == LeakVerdict::kUndecided) {
      const uint64_t calls = trial.next_calls();
      levels[metric] += 4096.0 * static_cast<double>(calls);
      trial.add(calls, 1e-3, 2e-3, levels);
    }
    EXPECT_EQ(trial.verdict(), LeakVerdict::kLeaks) << metric;
    EXPECT_NEAR(trial.growth(static_cast<LeakMetric>(metric)).estimate, 4096, 1) << metric;
  }
}

TEST(Trial, CannotBeSureOfMuchNoiseInLittleTime) {
  Random random;
  const Ending ending = try_out(turns_over(1000)(random), {}, 1e-3);
  EXPECT_EQ(ending.verdict, LeakVerdict::kClean);
  EXPECT_TRUE(ending.cut_short);
}

}  // namespace
}  // namespace weft::detail
