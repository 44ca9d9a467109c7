// Does a wake cost more when many others wait elsewhere? And what does one cost that finds nobody?
#include <benchmark/benchmark.h>

#include "engine.hpp"

namespace weft::engine {
namespace {

void park_at(const void* address) {
  ParkingLot::instance().park(address, kNever, kUninterruptible, {WaitKind::kLock, "bench", address},
                              [] { return true; });
}

// Two fibers wake each other through the lot while `range(0)` others wait, each at an address of its own. One
// item is one park, one wake and one switch.
void wake_beside_idle(benchmark::State& state) {
  Engine engine;
  std::vector<uint64_t> words(static_cast<size_t>(state.range(0)));
  size_t next = 0;
  bool stop = false;
  int ping = 0, pong = 0;
  {
    Fibers idle(engine, state.range(0), [&] { park_at(&words[next++]); });
    engine.carrier.yield();
    {
      Fibers other(engine, 1, [&] {
        while (!stop) {
          ParkingLot::instance().wake_one(&ping);
          park_at(&pong);
        }
      });
      for (auto _ : state) {
        park_at(&ping);
        ParkingLot::instance().wake_one(&pong);
      }
      state.SetItemsProcessed(state.iterations() * 2);
      stop = true;
    }
    for (uint64_t& word : words) ParkingLot::instance().wake_one(&word);
  }
}
BENCHMARK(wake_beside_idle)->Arg(100)->Arg(100'000);

void wake_nobody(benchmark::State& state) {
  int word = 0;
  for (auto _ : state) benchmark::DoNotOptimize(ParkingLot::instance().wake_one(&word));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(wake_nobody);

}  // namespace
}  // namespace weft::engine
