#include "runtime/dump_stack.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <ucontext.h>

#include <algorithm>
#include <string>
#include <vector>

#include "runtime/dump_symbols.hpp"

namespace weft::engine::dump {
namespace {

fcontext_t g_test, g_fiber;

// Functions with names to be found again; volatile counts keep them from becoming jumps.
volatile int g_count;

// Its frame is found through rbp, since its size is not known.
[[gnu::noinline]] void innermost_of_fiber() {
  auto* memory = static_cast<volatile char*>(__builtin_alloca(static_cast<size_t>(g_count) + 16));
  memory[0] = 1;
  weft_switch_stack(g_test, &g_fiber);
  g_count = g_count + 1;
}

[[gnu::noinline]] void outermost_of_fiber(transfer_t) {
  innermost_of_fiber();
  g_count = g_count + 1;
  fcontext_t unused;
  weft_switch_stack(g_test, &unused);
}

std::vector<std::string> functions(const StackContext& start) {
  Frame frames[64];
  Symbols symbols;
  std::vector<std::string> names;
  const size_t count = walk_stack(start, frames, 64);
  for (size_t i = 0; i < count; ++i) names.emplace_back(symbols.find(frames[i].address).function);
  return names;
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

TEST(WalkStack, FindsTheFramesOfAParkedFiber) {
  std::vector<std::byte> stack(256 * 1024);
  g_fiber = make_fcontext(stack.data() + stack.size(), stack.size(), &outermost_of_fiber);
  weft_switch_stack(g_fiber, &g_test);

  const std::vector<std::string> names = functions(StackContext::of_parked(g_fiber));
  ASSERT_GE(names.size(), 2u);
  EXPECT_TRUE(contains(names[0], "innermost_of_fiber")) << names[0];
  EXPECT_TRUE(contains(names[1], "outermost_of_fiber")) << names[1];

  weft_switch_stack(g_fiber, &g_test);
}

TEST(WalkStack, FindsTheCallersOfAContext) {
  ucontext_t here;
  getcontext(&here);
  StackContext start = StackContext::of_signal(&here);
  start.interrupted = false;
  const std::vector<std::string> names = functions(start);
  ASSERT_GE(names.size(), 3u);
  EXPECT_TRUE(contains(names.front(), "FindsTheCallersOfAContext")) << names.front();
  EXPECT_TRUE(
      std::any_of(names.begin(), names.end(), [](const std::string& name) { return name == "main"; }));
}

TEST(WalkStack, StopsAtTheLimit) {
  ucontext_t here;
  getcontext(&here);
  Frame frames[2];
  EXPECT_EQ(walk_stack(StackContext::of_signal(&here), frames, 2), 2u);
}

TEST(WalkStack, EndsWhereThereAreNoTables) {
  StackContext start;
  uint64_t stack[16] = {};
  start.rip = 0;
  start.rsp = reinterpret_cast<uint64_t>(stack);
  Frame frames[4];
  EXPECT_EQ(walk_stack(start, frames, 4), 0u);
}

// Not exported, so that dladdr would not know it.
[[gnu::noinline]] int hidden_function() {
  g_count = g_count + 1;
  return g_count;
}

TEST(Symbols, KnowFunctionsThatAreNotExported) {
  Symbols symbols;
  const Symbol symbol = symbols.find(reinterpret_cast<uintptr_t>(&hidden_function) + 1);
  EXPECT_TRUE(contains(std::string(symbol.function), "hidden_function")) << symbol.function;
  EXPECT_EQ(symbol.function_offset, 1u);
  EXPECT_TRUE(contains(std::string(symbol.object), "dump_stack_test")) << symbol.object;
}

TEST(Symbols, KnowExportedFunctionsOfLibraries) {
  Symbols symbols;
  const Symbol symbol = symbols.find(reinterpret_cast<uintptr_t>(dlsym(RTLD_DEFAULT, "malloc")));
  EXPECT_EQ(symbol.function_offset, 0u);
  EXPECT_TRUE(contains(std::string(symbol.function), "malloc")) << symbol.function;
}

TEST(Symbols, AreEmptyOutsideOfObjects) {
  Symbols symbols;
  EXPECT_TRUE(symbols.find(16).object.empty());
}

}  // namespace
}  // namespace weft::engine::dump
