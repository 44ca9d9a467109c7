// What do actors cost in C++, beside those of CAF (the C++ Actor Framework)?
//
// Both do the same work in the same messages, on as many OS threads ("cores") as the benchmark's name says:
// Weft's carriers, CAF's workers. What sends is an actor in CAF and a fiber, here the main one, in Weft; in
// "Outside" benchmarks it is a thread that neither knows, besides those. CAF's actors are dynamically typed
// and event-based: typed ones are no faster. Neither of its schedulers is always the faster one ("sharing":
// 1; 0: work stealing, its default): compare with the better.
//
// Usage: actor_bench [GOOGLE BENCHMARK'S OPTIONS]
//        actor_bench --ring-memory weft|weft-16k|caf [ACTORS]   memory of a ring, in KiB an actor
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "actor_bench_caf.hpp"
#include "actor_bench_weft.hpp"

namespace weft_bench {
namespace {

constexpr int kMessages = 10'000;
constexpr int kAsks = 1'000;
constexpr int kCrowd = 1'000;
constexpr int kRing = 100'000;

// --- Tell: many messages to one actor.

void TellWeft(benchmark::State& state) {
  WeftCores cores(state);
  WeftGate last(0);
  const auto counter = WeftCounter::start(last);
  for (auto _ : state) {
    for (int n = kMessages; n-- > 0;) counter.tell(&WeftCounter::add, n);
    last.acquire();
  }
  state.SetItemsProcessed(state.iterations() * kMessages);
  counter.stop().wait();
}

void TellCaf(benchmark::State& state) {
  CafCores cores(state);
  CafGate last(0);
  const auto counter = cores.system.spawn(caf_counter, &last);
  const auto sender = cores.system.spawn(caf_sender, counter);
  for (auto _ : state) {
    caf::anon_send(sender, kMessages);
    last.acquire();
  }
  state.SetItemsProcessed(state.iterations() * kMessages);
}

void TellOutsideWeft(benchmark::State& state) {
  WeftCores cores(state);
  WeftGate last(0);
  const auto counter = WeftCounter::start(last);
  outside([&] {
    for (auto _ : state) {
      for (int n = kMessages; n-- > 0;) counter.tell(&WeftCounter::add, n);
      last.acquire();
    }
  });
  state.SetItemsProcessed(state.iterations() * kMessages);
  counter.stop().wait();
}

void TellOutsideCaf(benchmark::State& state) {
  CafCores cores(state);
  CafGate last(0);
  const auto counter = cores.system.spawn(caf_counter, &last);
  for (auto _ : state) {
    for (int n = kMessages; n-- > 0;) caf::anon_send(counter, n);
    last.acquire();
  }
  state.SetItemsProcessed(state.iterations() * kMessages);
}

// --- Two senders at once to one actor.

void TwoSendersWeft(benchmark::State& state) {
  WeftCores cores(state);
  WeftGate last(0);
  const auto counter = WeftCounter::start(last);
  weft::Fiber<> senders[2];
  for (auto _ : state) {
    for (int i = 0; i < 2; ++i)
      senders[i] = weft::spawn(
          [&] {
            for (int n = kMessages; n-- > 0;) counter.tell(&WeftCounter::add, n);
          },
          {.carrier = i % static_cast<int>(state.range(0))});
    for (auto& sender : senders) sender.join();
    last.acquire();
    last.acquire();
  }
  state.SetItemsProcessed(state.iterations() * 2 * kMessages);
  counter.stop().wait();
}

void TwoSendersCaf(benchmark::State& state) {
  CafCores cores(state);
  CafGate last(0);
  const auto counter = cores.system.spawn(caf_counter, &last);
  const caf::actor senders[] = {cores.system.spawn(caf_sender, counter),
                                cores.system.spawn(caf_sender, counter)};
  for (auto _ : state) {
    for (const auto& sender : senders) caf::anon_send(sender, kMessages);
    last.acquire();
    last.acquire();
  }
  state.SetItemsProcessed(state.iterations() * 2 * kMessages);
}

// --- Ask: a message there, an answer back, one after the other.

void AskWeft(benchmark::State& state) {
  WeftCores cores(state);
  const auto echo = WeftEcho::start();
  for (auto _ : state)
    for (int i = 0; i < kAsks; ++i) benchmark::DoNotOptimize(echo.ask(&WeftEcho::echo, 1).get());
  state.SetItemsProcessed(state.iterations() * kAsks);
  echo.stop().wait();
}

void AskCaf(benchmark::State& state) {
  CafCores cores(state);
  CafGate last(0);
  const auto echo = cores.system.spawn(caf_echo);
  const auto asker = cores.system.spawn(caf_asker, echo, &last);
  for (auto _ : state) {
    caf::anon_send(asker, kAsks);
    last.acquire();
  }
  state.SetItemsProcessed(state.iterations() * kAsks);
}

void AskOutsideWeft(benchmark::State& state) {
  WeftCores cores(state);
  const auto echo = WeftEcho::start();
  outside([&] {
    for (auto _ : state) benchmark::DoNotOptimize(echo.ask(&WeftEcho::echo, 1).get());
  });
  state.SetItemsProcessed(state.iterations());
  echo.stop().wait();
}

void AskOutsideCaf(benchmark::State& state) {
  CafCores cores(state);
  const auto echo = cores.system.spawn(caf_echo);
  {
    caf::scoped_actor self(cores.system);
    for (auto _ : state)
      self->request(echo, caf::infinite, 1)
          .receive([](int n) { benchmark::DoNotOptimize(n); }, [](const caf::error&) { abort(); });
  }
  state.SetItemsProcessed(state.iterations());
}

// --- Fan out: one actor tells a thousand, each of which tells it something back.

void FanOutWeft(benchmark::State& state) {
  WeftCores cores(state);
  WeftGate last(0);
  const auto foreman = WeftForeman::start(last);
  foreman.ask(&WeftForeman::hire, kCrowd).wait();
  for (auto _ : state) {
    foreman.tell(&WeftForeman::hand_out);
    last.acquire();
  }
  state.SetItemsProcessed(state.iterations() * kCrowd);
  foreman.ask(&WeftForeman::dismiss).wait();
  foreman.stop().wait();
}

void FanOutCaf(benchmark::State& state) {
  CafCores cores(state);
  CafGate last(0);
  const auto foreman = cores.system.spawn(caf_foreman, kCrowd, &last);
  for (auto _ : state) {
    caf::anon_send(foreman, CafOrder::kHandOut);
    last.acquire();
  }
  state.SetItemsProcessed(state.iterations() * kCrowd);
  caf::anon_send(foreman, CafOrder::kDismiss);
}

// --- Ring: a token goes round; a hop.

void RingWeft(benchmark::State& state) {
  WeftCores cores(state);
  WeftRing ring(kRing);
  for (auto _ : state) ring.turn();
  state.SetItemsProcessed(state.iterations() * kRing);
}

void RingCaf(benchmark::State& state) {
  CafCores cores(state);
  CafRing ring(cores.system, kRing);
  for (auto _ : state) ring.turn();
  state.SetItemsProcessed(state.iterations() * kRing);
}

// --- Start and stop.

void StartWeft(benchmark::State& state) {
  WeftCores cores(state);
  std::vector<weft::ActorRef<WeftEcho>> actors;
  std::vector<weft::Future<bool>> ends;
  for (auto _ : state) {
    for (int i = 0; i < kCrowd; ++i) actors.push_back(WeftEcho::start());
    for (const auto& actor : actors) ends.push_back(actor.stop());
    for (const auto& end : ends) end.wait();
    actors.clear();
    ends.clear();
  }
  state.SetItemsProcessed(state.iterations() * kCrowd);
}

void StartCaf(benchmark::State& state) {
  CafCores cores(state);
  std::vector<caf::actor> actors;
  for (auto _ : state) {
    for (int i = 0; i < kCrowd; ++i) actors.push_back(cores.system.spawn(caf_echo));
    for (const auto& actor : actors) caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
    cores.system.await_all_actors_done();
    actors.clear();
  }
  state.SetItemsProcessed(state.iterations() * kCrowd);
}

// --- Memory: each in a process of its own, since what another benchmark has freed would not count.

struct Memory {
  double resident = 0, page_tables = 0;
};

Memory memory_now() {
  Memory memory;
  FILE* file = fopen("/proc/self/status", "r");
  char line[256];
  while (file && fgets(line, sizeof line, file)) {
    if (strncmp(line, "VmRSS:", 6) == 0) memory.resident = atof(line + 6);
    if (strncmp(line, "VmPTE:", 6) == 0) memory.page_tables = atof(line + 6);
  }
  if (file) fclose(file);
  return memory;
}

template <typename MakeRing>
int print_memory(int count, MakeRing&& make) {
  { [[maybe_unused]] auto warm = make(10); }
  const Memory before = memory_now();
  [[maybe_unused]] auto ring = make(count);
  const Memory after = memory_now();
  printf("%.3f %.3f\n", (after.resident - before.resident) / count,
         (after.page_tables - before.page_tables) / count);
  return 0;
}

int ring_memory(const std::string& side, int count) {
  if (side == "caf") {
    CafCores cores(1);
    return print_memory(count, [&](int size) { return CafRing(cores.system, size); });
  }
  const size_t stack_size = side == "weft-16k" ? 16 * 1024 : 0;
  WeftCores cores(1);
  return print_memory(count, [&](int size) { return WeftRing(size, stack_size); });
}

void RingMemory(benchmark::State& state, const char* side) {
  char self[4096] = {};
  if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) return state.SkipWithError("no /proc");
  const std::string command =
      "'" + std::string(self) + "' --ring-memory " + side + " " + std::to_string(kRing);
  Memory memory;
  for (auto _ : state) {
    FILE* pipe = popen(command.c_str(), "r");
    const bool read = pipe && fscanf(pipe, "%lf %lf", &memory.resident, &memory.page_tables) == 2;
    if (!pipe || pclose(pipe) != 0 || !read) return state.SkipWithError("the ring's process failed");
  }
  state.counters["KiB"] = memory.resident;
  state.counters["page_tables_KiB"] = memory.page_tables;
}

void weft_on_one(benchmark::internal::Benchmark* b) {
  b->ArgName("cores")->Arg(1)->UseRealTime();
}
void weft_on_both(benchmark::internal::Benchmark* b) {
  b->ArgName("cores")->DenseRange(1, 2)->UseRealTime();
}
void caf_on_one(benchmark::internal::Benchmark* b) {
  b->ArgNames({"cores", "sharing"})->ArgsProduct({{1}, {0, 1}})->UseRealTime();
}
void caf_on_both(benchmark::internal::Benchmark* b) {
  b->ArgNames({"cores", "sharing"})->ArgsProduct({{1, 2}, {0, 1}})->UseRealTime();
}

BENCHMARK(TellWeft)->Apply(weft_on_both);
BENCHMARK(TellCaf)->Apply(caf_on_both);
BENCHMARK(TellOutsideWeft)->Apply(weft_on_one);
BENCHMARK(TellOutsideCaf)->Apply(caf_on_one);
BENCHMARK(TwoSendersWeft)->Apply(weft_on_both);
BENCHMARK(TwoSendersCaf)->Apply(caf_on_both);
BENCHMARK(AskWeft)->Apply(weft_on_both);
BENCHMARK(AskCaf)->Apply(caf_on_both);
BENCHMARK(AskOutsideWeft)->Apply(weft_on_one);
BENCHMARK(AskOutsideCaf)->Apply(caf_on_one);
BENCHMARK(FanOutWeft)->Apply(weft_on_both);
BENCHMARK(FanOutCaf)->Apply(caf_on_both);
BENCHMARK(RingWeft)->Apply(weft_on_both);
BENCHMARK(RingCaf)->Apply(caf_on_both);
BENCHMARK(StartWeft)->Apply(weft_on_both);
BENCHMARK(StartCaf)->Apply(caf_on_both);
BENCHMARK_CAPTURE(RingMemory, Weft, "weft")->Iterations(1)->UseRealTime();
BENCHMARK_CAPTURE(RingMemory, Weft16K, "weft-16k")->Iterations(1)->UseRealTime();
BENCHMARK_CAPTURE(RingMemory, Caf, "caf")->Iterations(1)->UseRealTime();

}  // namespace
}  // namespace weft_bench

int main(int argc, char** argv) {
  if (argc > 2 && strcmp(argv[1], "--ring-memory") == 0)
    return weft_bench::ring_memory(argv[2], argc > 3 ? atoi(argv[3]) : weft_bench::kRing);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
