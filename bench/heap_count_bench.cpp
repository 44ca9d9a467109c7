// What counting allocations costs: a pair of malloc and free, and programs that do little else.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "weft/detail/heap_count.hpp"
#include "weft/detail/heap_profile.hpp"

namespace {

enum Mode : int64_t { kOff, kCounting, kSampling };

// For the time of a benchmark.
class Watched {
 public:
  explicit Watched(benchmark::State& state) : mode_(static_cast<Mode>(state.range(0))) {
    static const char* const kNames[] = {"off", "counting", "sampling"};
    state.SetLabel(kNames[mode_]);
    if (mode_ == kCounting && weft::detail::heap_count_begin() != 0) state.SkipWithError("cannot count");
    if (mode_ == kSampling && weft::detail::heap_profile_begin() != 0) state.SkipWithError("cannot sample");
  }
  ~Watched() {
    if (mode_ == kCounting) weft::detail::heap_count_end();
    if (mode_ == kSampling) weft::detail::heap_profile_end();
  }

 private:
  Mode mode_;
};

void pair(benchmark::State& state) {
  Watched watched(state);
  for (auto _ : state) {
    void* block = malloc(64);
    benchmark::DoNotOptimize(block);
    free(block);
  }
}
BENCHMARK(pair)->DenseRange(kOff, kSampling);

// Blocks of many sizes, of which a few thousand live at a time.
void churn(benchmark::State& state) {
  Watched watched(state);
  std::vector<void*> live(4096);
  std::minstd_rand random(1);
  for (auto _ : state) {
    void*& block = live[random() % live.size()];
    free(block);
    block = malloc(16 + random() % 1000);
    benchmark::DoNotOptimize(block);
  }
  for (void* block : live) free(block);
}
BENCHMARK(churn)->DenseRange(kOff, kSampling);

void map_of_strings(benchmark::State& state) {
  Watched watched(state);
  for (auto _ : state) {
    std::map<std::string, std::string> map;
    for (int i = 0; i < 1000; ++i)
      map.emplace("a key too long to be kept inline " + std::to_string(i * 7919 % 1000),
                  std::string(100, 'x'));
    benchmark::DoNotOptimize(map);
  }
  state.SetItemsProcessed(state.iterations() * 1000);
}
BENCHMARK(map_of_strings)->DenseRange(kOff, kSampling)->Unit(benchmark::kMicrosecond);

void vectors_of_strings(benchmark::State& state) {
  Watched watched(state);
  for (auto _ : state) {
    std::vector<std::vector<std::string>> rows;
    for (int i = 0; i < 100; ++i) {
      auto& row = rows.emplace_back();
      for (int j = 0; j < 20; ++j) row.emplace_back(20 + static_cast<size_t>(i * 7 + j) % 100, 'x');
    }
    benchmark::DoNotOptimize(rows);
  }
  state.SetItemsProcessed(state.iterations() * 2000);
}
BENCHMARK(vectors_of_strings)->DenseRange(kOff, kSampling)->Unit(benchmark::kMicrosecond);

}  // namespace
