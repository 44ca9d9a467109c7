// What do the operations of the C++ library cost, beside Boost.Fiber's, in one program?
#include <benchmark/benchmark.h>

#include <boost/fiber/all.hpp>
#include <thread>
#include <vector>

#include "weft/weft.hpp"

namespace {

constexpr int kBatch = 1000;

void SpawnWeft(benchmark::State& state) {
  std::vector<weft::Fiber<>> fibers;
  for (auto _ : state) {
    for (int i = 0; i < kBatch; ++i) fibers.push_back(weft::spawn([] {}));
    for (auto& fiber : fibers) fiber.join();
    fibers.clear();
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
}
BENCHMARK(SpawnWeft);

void SpawnBoost(benchmark::State& state) {
  std::vector<boost::fibers::fiber> fibers;
  for (auto _ : state) {
    for (int i = 0; i < kBatch; ++i) fibers.emplace_back([] {});
    for (auto& fiber : fibers) fiber.join();
    fibers.clear();
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
}
BENCHMARK(SpawnBoost);

void SpawnThreads(benchmark::State& state) {
  for (auto _ : state) std::thread([] {}).join();
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(SpawnThreads)->UseRealTime();

void PairWeft(benchmark::State& state) {
  for (auto _ : state) weft::spawn([] {}).join();
}
BENCHMARK(PairWeft);

void PairBoost(benchmark::State& state) {
  for (auto _ : state) boost::fibers::fiber([] {}).join();
}
BENCHMARK(PairBoost);

// An item there and one back.
void ChannelWeft(benchmark::State& state) {
  weft::Channel<int> there, back;
  auto answering = weft::spawn([&] {
    for (int item : there) back.send(item);
  });
  for (auto _ : state) {
    there.send(1);
    benchmark::DoNotOptimize(back.receive());
  }
  there.close();
  answering.join();
}
BENCHMARK(ChannelWeft);

void ChannelBoost(benchmark::State& state) {
  boost::fibers::unbuffered_channel<int> there, back;
  boost::fibers::fiber answering([&] {
    for (int item : there) back.push(item);
  });
  int item = 0;
  for (auto _ : state) {
    there.push(1);
    back.pop(item);
  }
  there.close();
  answering.join();
}
BENCHMARK(ChannelBoost);

void YieldWeft(benchmark::State& state) {
  bool over = false;
  auto other = weft::spawn([&] {
    while (!over) weft::this_fiber::yield();
  });
  for (auto _ : state) weft::this_fiber::yield();
  over = true;
  other.join();
}
BENCHMARK(YieldWeft);

void YieldBoost(benchmark::State& state) {
  bool over = false;
  boost::fibers::fiber other([&] {
    while (!over) boost::this_fiber::yield();
  });
  for (auto _ : state) boost::this_fiber::yield();
  over = true;
  other.join();
}
BENCHMARK(YieldBoost);

void MutexWeft(benchmark::State& state) {
  weft::Mutex mutex;
  for (auto _ : state) {
    mutex.lock();
    mutex.unlock();
  }
}
BENCHMARK(MutexWeft);

void MutexBoost(benchmark::State& state) {
  boost::fibers::mutex mutex;
  for (auto _ : state) {
    mutex.lock();
    mutex.unlock();
  }
}
BENCHMARK(MutexBoost);

// Boost.Fiber has neither of these.
void SelectOf100Weft(benchmark::State& state) {
  std::vector<weft::Channel<int>> channels(100, weft::Channel<int>(1));
  for (auto& channel : channels) channel = weft::Channel<int>(1);
  std::vector<weft::detail::Case> cases(100);
  std::size_t next = 0;
  for (auto _ : state) {
    channels[next++ % 100].send(1);
    int item;
    for (std::size_t i = 0; i < 100; ++i) {
      cases[i].kind = weft::detail::Case::Kind::kReceive;
      cases[i].channel = &channels[i].core();
      cases[i].item = &item;
    }
    std::size_t chosen;
    weft::detail::select(cases.data(), cases.size(), weft::detail::kNever, &chosen);
    benchmark::DoNotOptimize(chosen);
  }
}
BENCHMARK(SelectOf100Weft);

void TimeoutScopeWeft(benchmark::State& state) {
  for (auto _ : state) {
    weft::TimeoutScope scope(std::chrono::seconds(10));
    benchmark::ClobberMemory();
  }
}
BENCHMARK(TimeoutScopeWeft);

}  // namespace
