// What tells of the heap, and the leak tests themselves: no call of theirs leaks.
#include <gtest/gtest-spi.h>
#include <malloc.h>

#include <stdexcept>

#include "public_calls.hpp"
#include "weft/heap.hpp"
#include "weft/heap/gtest.hpp"
#include "weft/heap/leak_check.hpp"
#include "weft/heap/profile.hpp"

namespace weft::heap::test {
namespace {

using namespace weft::test;

void* lose(void* block) {
  asm volatile("" : : "r"(block) : "memory");
  return block;
}

TEST(HeapLeaks, Figures) {
  EXPECT_EQ(allocator(), Allocator::kGlibc);
  EXPECT_NO_LEAK({
    EXPECT_GT(info().heap_used, 0u);
    EXPECT_FALSE(arenas().empty());
    EXPECT_EQ(NotSupported("why").what(), std::string("why"));
  });
  EXPECT_NO_LEAK_WITH(few_calls(), { trim(); });
}

TEST(ArenaLeaks, Fragmented) {
  EXPECT_NO_LEAK({
    for (const Arena& arena : arenas()) EXPECT_LE(arena.fragmented(), arena.held);
  });
}

TEST(ProfileLeaks, TakenAndWritten) {
  const std::string pprof = LeakTestEnvironment::folder() + "/profile.pb.gz",
                    svg = LeakTestEnvironment::folder() + "/profile.svg";
  EXPECT_NO_LEAK_WITH(few_calls(), {
    Profile profile({.interval = 1, .seed = 5});
    free(lose(malloc(100)));
    EXPECT_EQ(error_of([] { Profile another; }), EALREADY);
    EXPECT_FALSE(profile.sites().empty());
    profile.stop();
    profile.stop();
    profile.write_pprof(pprof);
    profile.write_svg(svg, Measure::kMadeBytes, "a title");
    EXPECT_EQ(error_of([&] { profile.write_pprof("/no such folder/x"); }), ENOENT);
    EXPECT_EQ(error_of([&] { profile.write_svg("/no such folder/x"); }), ENOENT);
  });
}

// A check within a check counts for both, which is what is wanted here.
TEST(LeakCheckLeaks, OfMemory) {
  LeakOptions inner = few_calls(2);
  inner.runs = 5;
  inner.warm_up = 0;
  inner.resources = {};
  EXPECT_NO_LEAK_WITH(few_calls(5), {
    EXPECT_FALSE(LeakCheck(inner).run([] { free(lose(malloc(64))); }).leaks());
    void* kept[10000];
    size_t count = 0;
    const LeakReport leaking = LeakCheck(inner).run([&] { kept[count++] = lose(malloc(640)); });
    while (count > 0) free(kept[--count]);
    EXPECT_TRUE(leaking.leaks());
    EXPECT_THROW(LeakCheck(inner).run([] { throw std::runtime_error("it fails"); }), std::runtime_error);
    EXPECT_THROW(LeakCheck{few_calls(0)}, std::invalid_argument);
  });
}

TEST(LeakCheckLeaks, OfResources) {
  LeakOptions resources = few_calls();
  resources.memory = false;
  int times = 5;
  EXPECT_NO_LEAK_WITH(few_calls(), {
    EXPECT_FALSE(LeakCheck(resources).run([] { close(dup(0)); }).leaks());
    int ends[10];
    int opened = 0;
    // What is left is looked for again for a while, so this takes long.
    if (times-- > 0) {
      EXPECT_TRUE(LeakCheck(resources).run([&] { ends[opened++] = dup(0); }).leaks());
    }
    while (opened > 0) close(ends[--opened]);
  });
}

TEST(LeakReportLeaks, Copies) {
  const LeakReport report = LeakCheck(few_calls()).run([] { lose(malloc(64)); });
  EXPECT_NO_LEAK({
    const LeakReport copy = report;
    EXPECT_TRUE(copy.leaks());
    EXPECT_EQ(copy.text(), report.text());
    EXPECT_EQ(copy.svg(), report.svg());
    EXPECT_EQ(copy.calls(), report.calls());
    EXPECT_EQ(copy.exact(), report.exact());
    EXPECT_EQ(copy.uncertain(), report.uncertain());
  });
}

TEST(GtestLeaks, Assertions) {
  EXPECT_NO_LEAK_WITH(few_calls(2), {
    EXPECT_NO_LEAK({ free(lose(malloc(64))); });
    ASSERT_NO_LEAK({ free(lose(malloc(64))); });
    EXPECT_NO_LEAK_WITH(few_calls(2), { free(lose(malloc(64))); });
  });
  LeakOptions resources = few_calls();
  resources.memory = false;  // which the block loses
  EXPECT_NO_LEAK_WITH(resources, {
    EXPECT_NONFATAL_FAILURE(EXPECT_NO_LEAK({ lose(malloc(64)); }), "memory grows with the calls");
  });
}

}  // namespace
}  // namespace weft::heap::test
