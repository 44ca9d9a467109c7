// Does a timer cost more when many others are pending?
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "fiber/timer_wheel.hpp"

namespace weft::engine {
namespace {

// A wheel with `count` timers due over the next minute.
struct Crowd {
  explicit Crowd(int64_t count) : timers(static_cast<size_t>(count)) {
    wheel.expire(kStart, [](Timer&) {});
    std::mt19937_64 random(1);
    for (Timer& timer : timers)
      wheel.insert(timer, kStart + kSecond + static_cast<Nanos>(random() % (60 * kSecond)));
  }
  static constexpr Nanos kStart = 1'000'000 * kSecond;
  TimerWheel wheel;
  std::vector<Timer> timers;
};

// A time limit that is not reached, as of nearly every wait.
void insert_and_remove(benchmark::State& state) {
  Crowd crowd(state.range(0));
  Timer timer;
  Nanos now = Crowd::kStart;
  for (auto _ : state) {
    crowd.wheel.insert(timer, now + 30 * kSecond);
    crowd.wheel.remove(timer);
    ++now;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(insert_and_remove)->Arg(100)->Arg(100'000);

// A sleep: set, and fired a microsecond later. So many that time does not reach the crowd.
void insert_and_fire(benchmark::State& state) {
  Crowd crowd(state.range(0));
  Timer timer;
  Nanos now = Crowd::kStart;
  int fired = 0;
  for (auto _ : state) {
    crowd.wheel.insert(timer, now + 1000);
    crowd.wheel.expire(now += 1000, [&](Timer&) { ++fired; });
  }
  benchmark::DoNotOptimize(fired);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(insert_and_fire)->Arg(100)->Arg(100'000)->Iterations(400'000);

}  // namespace
}  // namespace weft::engine
