#include <dlfcn.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <latch>
#include <string>
#include <thread>
#include <vector>

#include "weft/detail/heap_profile.hpp"

namespace {

using namespace weft::detail;

template <typename Value>
[[gnu::noinline]] Value* used(Value* block) {
  asm volatile("" : "+r"(block) : : "memory");
  return block;
}

// Not tail calls, so that the function stands in the stack; and not alike, or they would be one.
[[gnu::noinline]] void* allocate_here(size_t size) {
  void* block = used(malloc(size));
  asm volatile("");
  return block;
}
[[gnu::noinline]] void* allocate_there(size_t size) {
  void* block = used(malloc(size));
  asm volatile("# another");
  return block;
}
[[gnu::noinline]] void* reallocate(void* block, size_t size) {
  void* result = used(realloc(block, size));
  asm volatile("");
  return result;
}

struct Found {
  uint64_t samples = 0;
  int sites = 0;
  double made_blocks = 0, made_bytes = 0, live_blocks = 0, live_bytes = 0;
  double marked[HeapSite::kMarks] = {};
};

// The sum of all sites that have `function` in their stacks.
Found find(const std::string& function, HeapProfile* profile = nullptr) {
  struct Search {
    const std::string& function;
    Found found;
  } search{function, {}};
  const auto visit = [](void* argument, const HeapSite& site) {
    auto& [wanted, found] = *static_cast<Search*>(argument);
    for (size_t i = 0; i < site.frame_count; ++i) {
      if (!strstr(site.frames[i].function, wanted.c_str())) continue;
      ++found.sites;
      found.samples += site.samples;
      found.made_blocks += site.made_blocks;
      found.made_bytes += site.made_bytes;
      found.live_blocks += site.live_blocks;
      found.live_bytes += site.live_bytes;
      for (uint32_t mark = 0; mark < HeapSite::kMarks; ++mark) found.marked[mark] += site.marked[mark];
      return;
    }
  };
  EXPECT_EQ(heap_profile_visit(visit, &search, profile), 0);
  return search.found;
}

class HeapProfileTest : public testing::Test {
 protected:
  ~HeapProfileTest() override { heap_profile_end(); }
  static void begin(size_t interval) { ASSERT_EQ(heap_profile_begin(interval, 42), 0); }
};

TEST_F(HeapProfileTest, EveryAllocationIsExact) {
  begin(1);
  std::vector<void*> blocks;
  blocks.reserve(30);
  for (int i = 0; i < 10; ++i) blocks.push_back(allocate_here(100));
  for (int i = 0; i < 20; ++i) blocks.push_back(allocate_there(3000));
  const auto small = static_cast<double>(malloc_usable_size(blocks[0]));
  const auto large = static_cast<double>(malloc_usable_size(blocks[29]));
  for (int i = 0; i < 4; ++i) free(blocks[static_cast<size_t>(i)]);
  const Found here = find("allocate_here"), there = find("allocate_there");
  EXPECT_EQ(here.sites, 1);
  EXPECT_EQ(here.samples, 10u);
  EXPECT_EQ(here.made_blocks, 10);
  EXPECT_EQ(here.made_bytes, 10 * small);
  EXPECT_EQ(here.live_blocks, 6);
  EXPECT_EQ(here.live_bytes, 6 * small);
  EXPECT_EQ(there.made_blocks, 20);
  EXPECT_EQ(there.live_bytes, 20 * large);
  for (size_t i = 4; i < 30; ++i) free(blocks[i]);
  EXPECT_EQ(find("allocate_").live_blocks, 0);
}

TEST_F(HeapProfileTest, TheStackBeginsWithWhoAllocates) {
  begin(1);
  void* block = allocate_here(100);
  std::string innermost;
  heap_profile_visit(
      [](void* argument, const HeapSite& site) {
        if (site.frame_count > 1 && strstr(site.frames[0].function, "allocate_here"))
          *static_cast<std::string*>(argument) = site.frames[1].function;
      },
      &innermost);
  EXPECT_NE(innermost.find("TheStackBeginsWithWhoAllocates"), std::string::npos) << innermost;
  free(block);
}

// With 1,500 samples and more the estimates are within 2.6 % in two of three cases.
TEST_F(HeapProfileTest, SamplesEstimate) {
  begin(4096);
  std::vector<void*> kept;
  kept.reserve(60'000);
  for (int i = 0; i < 120'000; ++i) {
    void* block = allocate_here(56);
    i % 2 ? free(block) : kept.push_back(block);
  }
  for (int i = 0; i < 20'000; ++i) free(allocate_there(2000 + static_cast<size_t>(i % 7) * 1000));
  const Found here = find("allocate_here"), there = find("allocate_there");
  EXPECT_LT(here.samples, 3000u);
  EXPECT_NEAR(here.made_blocks, 120'000, 0.15 * 120'000);
  EXPECT_NEAR(here.made_bytes, 120'000 * 56, 0.15 * 120'000 * 56);
  EXPECT_NEAR(here.live_blocks, 60'000, 0.2 * 60'000);
  EXPECT_NEAR(there.made_blocks, 20'000, 0.05 * 20'000);
  EXPECT_NEAR(there.made_bytes, 20'000 * 5000.0, 0.05 * 20'000 * 5000);
  EXPECT_NEAR(there.live_blocks, 0, 1e-6);
  for (void* block : kept) free(block);
  EXPECT_NEAR(find("allocate_here").live_blocks, 0, 1e-6);
}

TEST_F(HeapProfileTest, ASeedMakesRunsAlike) {
  const auto samples = [](uint64_t seed) {
    EXPECT_EQ(heap_profile_begin(4096, seed), 0);
    for (int i = 0; i < 10'000; ++i) free(allocate_here(56));
    heap_profile_end();
    return find("allocate_here").samples;
  };
  const uint64_t first = samples(7);
  EXPECT_EQ(samples(7), first);
  EXPECT_GT(first, 50u);
  EXPECT_NE(samples(8) * 1'000'000 + samples(9) * 1000 + samples(10), first * 1'001'001);
}

TEST_F(HeapProfileTest, Realloc) {
  begin(1);
  void* block = allocate_here(100);
  block = reallocate(block, 50'000);
  const auto size = static_cast<double>(malloc_usable_size(block));
  EXPECT_EQ(find("allocate_here").live_blocks, 0);
  EXPECT_EQ(find("reallocate").live_bytes, size);
  volatile size_t huge = SIZE_MAX / 2;
  EXPECT_EQ(reallocate(block, huge), nullptr);
  EXPECT_EQ(find("reallocate").live_bytes, size);
  EXPECT_EQ(find("reallocate").made_blocks, 1);
  free(block);
  EXPECT_EQ(find("reallocate").live_blocks, 0);
}

TEST_F(HeapProfileTest, MarksTellWhatGrows) {
  begin(1);
  std::vector<void*> leaked;
  leaked.reserve(100);
  for (uint32_t run = 0; run < 3; ++run) {
    for (int i = 0; i < 5; ++i) leaked.push_back(allocate_here(64));
    for (int i = 0; i < 5; ++i) free(allocate_there(64));
    EXPECT_EQ(heap_profile_mark(), run + 1);
  }
  const Found here = find("allocate_here"), there = find("allocate_there");
  for (int run = 0; run < 3; ++run) {
    EXPECT_EQ(here.marked[run], 5 * (run + 1));
    EXPECT_EQ(there.marked[run], 0);
  }
  for (uint32_t run = 0; run < HeapSite::kMarks; ++run) heap_profile_mark();
  HeapProfile profile;
  EXPECT_EQ(find("allocate_here", &profile).marked[(profile.marks - 1) % HeapSite::kMarks], 15);
  for (void* block : leaked) free(block);
}

TEST_F(HeapProfileTest, APausedThreadIsNotSampled) {
  begin(1);
  void* before = allocate_here(64);
  {
    const HeapProfilePause pause;
    free(allocate_here(64));
    free(before);
    std::thread([] { free(allocate_there(64)); }).join();
  }
  EXPECT_EQ(find("allocate_here").made_blocks, 1);
  EXPECT_EQ(find("allocate_here").live_blocks, 0);
  EXPECT_EQ(find("allocate_there").made_blocks, 1);
}

TEST_F(HeapProfileTest, ThreadsAtOnce) {
  begin(1);
  constexpr int kThreads = 8, kRounds = 2000;
  std::vector<std::thread> threads;
  std::vector<std::vector<void*>> kept(kThreads);
  for (auto& blocks : kept) blocks.reserve(kRounds);
  std::latch ready(kThreads);
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      ready.arrive_and_wait();
      for (int i = 0; i < kRounds; ++i) {
        void* block = allocate_here(static_cast<size_t>(16 + i % 300));
        i % 4 ? free(block) : kept[static_cast<size_t>(t)].push_back(block);
      }
    });
  for (std::thread& thread : threads) thread.join();
  const Found found = find("allocate_here");
  EXPECT_EQ(found.made_blocks, kThreads * kRounds);
  EXPECT_EQ(found.live_blocks, kThreads * kRounds / 4);
  for (auto& blocks : kept)
    for (void* block : blocks) free(block);
  EXPECT_EQ(find("allocate_here").live_blocks, 0);
}

TEST_F(HeapProfileTest, AChildGoesOn) {
  begin(1);
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop.load()) free(allocate_there(100));
  });
  void* block = allocate_here(100);
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      allocate_here(100);
      free(block);
      const Found found = find("allocate_here");
      _exit(found.made_blocks == 2 && found.live_blocks == 1 ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  stop.store(true);
  busy.join();
  free(block);
}

TEST_F(HeapProfileTest, BeginsAnew) {
  begin(1);
  EXPECT_EQ(heap_profile_begin(), EALREADY);
  void* block = allocate_here(64);
  heap_profile_end();
  heap_profile_end();
  free(allocate_here(64));
  EXPECT_EQ(find("allocate_here").made_blocks, 1);  // is kept
  begin(1);
  EXPECT_EQ(find("allocate_here").made_blocks, 0);
  free(block);  // of the one before
  free(allocate_here(64));
  EXPECT_EQ(find("allocate_here").made_blocks, 1);
  EXPECT_EQ(find("allocate_here").live_blocks, 0);
}

// The module has a copy of the engine in it.
TEST_F(HeapProfileTest, AnotherCopyIsRefusedMeanwhile) {
  void* module = dlopen(WEFT_MODULE, RTLD_NOW | RTLD_LOCAL);
  ASSERT_TRUE(module) << dlerror();
  auto* begin_there = reinterpret_cast<int (*)(size_t)>(dlsym(module, "module_begin"));
  auto* end_there = reinterpret_cast<void (*)()>(dlsym(module, "module_end"));
  begin(1);
  EXPECT_EQ(begin_there(1), ENOTSUP);
  free(allocate_here(64));
  EXPECT_EQ(find("allocate_here").made_blocks, 1);
  heap_profile_end();
  EXPECT_EQ(begin_there(1), 0);
  EXPECT_EQ(heap_profile_begin(), ENOTSUP);
  end_there();
  begin(1);
}

TEST_F(HeapProfileTest, WhatCannotBeWritten) {
  begin(1);
  EXPECT_EQ(heap_profile_write_pprof("/nowhere/profile"), ENOENT);
  EXPECT_EQ(heap_profile_write_svg("/proc/profile.svg"), ENOENT);
}

}  // namespace
