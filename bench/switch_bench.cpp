// What does a switch cost, over a bare jump between two stacks, and does it grow with the number of fibers?
#include <benchmark/benchmark.h>

#include <boost/context/detail/fcontext.hpp>

#include "engine.hpp"

namespace weft::engine {
namespace {

using boost::context::detail::jump_fcontext;

// The floor: two contexts that jump to each other and keep nothing else apart.
void bare_jump(benchmark::State& state) {
  const Stack stack = StackPool::instance().allocate(StackPool::kMinimumSize);
  fcontext_t other = make_fcontext(stack.top, stack.size(), [](transfer_t from) {
    for (;;) from = jump_fcontext(from.fctx, nullptr);
  });
  for (auto _ : state) other = jump_fcontext(other, nullptr).fctx;  // there and back: two jumps
  state.SetItemsProcessed(state.iterations() * 2);
  StackPool::instance().release(stack);
}
BENCHMARK(bare_jump);

// `range(0)` fibers that run the same loop yield to each other. One item is one switch.
void yield(benchmark::State& state) {
  Engine engine;
  const int64_t fibers = state.range(0), rounds = 1'000'000 / fibers;
  for (auto _ : state)
    Fibers all(engine, fibers, [&] {
      for (int64_t i = 0; i < rounds; ++i) engine.carrier.yield();
    });
  state.SetItemsProcessed(state.iterations() * fibers * rounds);
}
BENCHMARK(yield)->Arg(2)->Arg(1'000);

// The same from eight calls down, as a fiber does that waits inside a library.
[[gnu::noinline]] void yield_below(Carrier& carrier, int calls) {
  if (calls == 0)
    carrier.yield();
  else
    yield_below(carrier, calls - 1);
  asm volatile("");  // no tail call
}

void yield_from_deep(benchmark::State& state) {
  Engine engine;
  const int64_t fibers = state.range(0), rounds = 1'000'000 / fibers;
  for (auto _ : state)
    Fibers all(engine, fibers, [&] {
      for (int64_t i = 0; i < rounds; ++i) yield_below(engine.carrier, 8);
    });
  state.SetItemsProcessed(state.iterations() * fibers * rounds);
}
BENCHMARK(yield_from_deep)->Arg(2)->Arg(1'000);

// Two fibers yield from different places: each return from the switch is mispredicted.
void yield_elsewhere(benchmark::State& state) {
  Engine engine;
  bool stop = false;
  Fibers other(engine, 1, [&] {
    while (!stop) engine.carrier.yield();
  });
  for (auto _ : state) engine.carrier.yield();
  state.SetItemsProcessed(state.iterations() * 2);
  stop = true;
}
BENCHMARK(yield_elsewhere);

// Two fibers switch while `range(0)` others are parked.
void yield_beside_idle(benchmark::State& state) {
  Engine engine;
  std::atomic<uint32_t> gate{0};
  Fibers idle(engine, state.range(0), [&] { engine.wait_for(gate); });
  engine.carrier.yield();
  bool stop = false;
  {
    Fibers other(engine, 1, [&] {
      while (!stop) engine.carrier.yield();
    });
    for (auto _ : state) engine.carrier.yield();
    state.SetItemsProcessed(state.iterations() * 2);
    stop = true;
  }
  engine.open(gate);
}
BENCHMARK(yield_beside_idle)->Arg(100)->Arg(100'000);

// A fiber's whole life: created, run, joined.
void create_run_join(benchmark::State& state) {
  Engine engine;
  for (auto _ : state) Fibers one(engine, 1, [] {});
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(create_run_join);

// The running fiber wakes another and parks until that has woken it in turn: two parks, two wakes, two
// switches.
void park_unpark(benchmark::State& state) {
  Engine engine;
  Fiber& self = engine.carrier.running();
  bool stop = false;
  uint64_t mine = 0, theirs = 0;
  Fiber* partner = nullptr;
  Fibers other(engine, 1, [&] {
    partner = &engine.carrier.running();
    while (!stop) {
      theirs = partner->begin_wait(kUninterruptible, {WaitKind::kOther, "bench"});
      if (mine) self.unpark(mine, Wake::kReady);
      engine.carrier.park();
    }
  });
  engine.carrier.yield();
  for (auto _ : state) {
    mine = self.begin_wait(kUninterruptible, {WaitKind::kOther, "bench"});
    partner->unpark(theirs, Wake::kReady);
    engine.carrier.park();
  }
  state.SetItemsProcessed(state.iterations() * 2);
  stop = true;
  mine = 0;
  partner->unpark(theirs, Wake::kReady);
}
BENCHMARK(park_unpark);

}  // namespace
}  // namespace weft::engine
