// glibc's heap against what is made of it here: figures are exact to the byte.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <latch>
#include <thread>
#include <utility>
#include <vector>

#include "weft/heap.hpp"
#include "weft/weft.hpp"

namespace weft::heap {
namespace {

// Beyond what a thread keeps in its cache (1,032), so that free() gives it back to the arena.
constexpr size_t kSize = 2000;
constexpr size_t kChunk = 2016;  // 8 bytes more, and a multiple of 16
constexpr size_t kCount = 2000;

// Static: the list of the blocks is in no heap.
using Blocks = std::array<void*, kCount>;
Blocks g_blocks, g_others;

void* (*volatile g_malloc)(size_t) = malloc;  // which a compiler leaves out else
void fill(Blocks& blocks, size_t size = kSize) {
  for (void*& block : blocks) block = g_malloc(size);
}
void release(Blocks& blocks, size_t step = 1) {
  for (size_t i = 0; i < blocks.size(); i += step) free(std::exchange(blocks[i], nullptr));
}

// arenas() without what it returns, which is in the heap.
struct Rows {
  std::array<weft::detail::HeapArena, 256> rows;
  size_t count = 0;
  Rows() noexcept { EXPECT_EQ(weft::detail::heap_arenas(rows.data(), rows.size(), count), 0); }
  uint64_t used() const noexcept {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; ++i) sum += rows[i].used;
    return sum;
  }
};

size_t resident() {
  size_t all = 0, pages = 0;
  FILE* const file = fopen("/proc/self/statm", "r");
  EXPECT_EQ(fscanf(file, "%zu %zu", &all, &pages), 2);
  fclose(file);
  return pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

TEST(Glibc, ItIs) {
  EXPECT_EQ(allocator(), Allocator::kGlibc);
}

// First of all: what info() itself needs must not be in the difference.
TEST(Glibc, BlocksOfTheMainArena) {
  const Info before = info();
  fill(g_blocks);
  const Info full = info();
  release(g_blocks);
  const Info after = info();
  EXPECT_EQ(full.heap_used - before.heap_used, kCount * kChunk);
  EXPECT_EQ(after.heap_used, before.heap_used);
  EXPECT_EQ(full.mmap_used, before.mmap_used);
}

TEST(Glibc, BlocksOfAnotherThread) {
  std::barrier turn(2);
  std::thread thread([&] {
    free(g_malloc(kSize));  // it has its arena now
    turn.arrive_and_wait();
    turn.arrive_and_wait();
    fill(g_others);
    turn.arrive_and_wait();
    turn.arrive_and_wait();
    release(g_others);
    turn.arrive_and_wait();
    turn.arrive_and_wait();
  });
  turn.arrive_and_wait();
  Rows();  // what it needs once
  const Info before = info();
  const Rows arenas_before;
  turn.arrive_and_wait();
  turn.arrive_and_wait();
  const Info full = info();
  const Rows arenas_full;
  turn.arrive_and_wait();
  turn.arrive_and_wait();
  const Info after = info();
  turn.arrive_and_wait();
  thread.join();
  EXPECT_EQ(full.heap_used - before.heap_used, kCount * kChunk);
  EXPECT_EQ(after.heap_used, before.heap_used);
  EXPECT_EQ(arenas_full.rows[0].used, arenas_before.rows[0].used) << "they are in the thread's own arena";
  EXPECT_EQ(arenas_full.used(), full.heap_used);
}

TEST(Glibc, MappedBlocks) {
  constexpr size_t kLarge = size_t{48} << 20;  // beyond the largest threshold there is
  const Info before = info();
  void* const block = g_malloc(kLarge);
  const Info full = info();
  const size_t size = malloc_usable_size(block) + 16;
  free(block);
  EXPECT_EQ(full.mmap_used - before.mmap_used, size);
  EXPECT_EQ(full.heap_used, before.heap_used);
  EXPECT_EQ(info().mmap_used, before.mmap_used);
}

TEST(Glibc, ArenasAreCountedAsThreadsComeToNeedThem) {
  const size_t before = info().heap_count;
  EXPECT_EQ(before, arenas().size());
  // As many as there are arenas, at once: but for the main one, those that other threads left are taken
  // first.
  std::latch all(static_cast<ptrdiff_t>(before) + 1), done(1);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < before; ++i)
    threads.emplace_back([&] {
      void* const block = g_malloc(kSize);
      all.arrive_and_wait();
      done.wait();
      free(block);
    });
  all.arrive_and_wait();
  EXPECT_EQ(info().heap_count, before + 1);
  done.count_down();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(info().heap_count, before + 1) << "an arena stays";
}

TEST(Glibc, HolesAreFragmentationAndTheEndIsTop) {
  Rows();
  fill(g_blocks);
  Rows();
  const Rows full;
  release(g_blocks, 2);  // all but the last, which the top begins behind
  const Rows holes;
  EXPECT_EQ(full.rows[0].used - holes.rows[0].used, kCount / 2 * kChunk);
  EXPECT_EQ(holes.rows[0].held, full.rows[0].held);
  EXPECT_EQ(holes.rows[0].top, full.rows[0].top);
  EXPECT_EQ(full.rows[0].used % 16, 0u);
  release(g_blocks);
  const Rows after;
  EXPECT_GT(after.rows[0].top, full.rows[0].top) << "what was free before the end has become the end's";
}

TEST(Glibc, ArenasAgreeWithInfo) {
  fill(g_blocks, 100);
  release(g_blocks, 3);  // into the cache of the thread, the fast bins and the others
  Rows();
  const Rows rows;
  const Info all = info();
  EXPECT_EQ(rows.used(), all.heap_used);
  EXPECT_EQ(rows.count, all.heap_count);
  for (void* block : g_blocks) free(block);
  for (const Arena& arena : arenas())
    EXPECT_EQ(arena.used + arena.top + arena.fragmented(), arena.held) << arena.number;
}

TEST(Glibc, TrimGivesBackWholePagesBetweenBlocks) {
  fill(g_blocks, 8 * kSize);
  for (void* block : g_blocks) memset(block, 1, 8 * kSize);
  void* const last = std::exchange(g_blocks.back(), nullptr);  // else free() gives the end back
  release(g_blocks);
  const size_t before = resident();
  EXPECT_TRUE(trim());
  EXPECT_GT(before - resident(), kCount * 8 * kSize * 9 / 10);
  free(last);
}

TEST(Glibc, FewRowsAreFilledAndAllCounted) {
  std::array<weft::detail::HeapArena, 2> rows;
  rows[1].held = 7;
  size_t count = 0;
  ASSERT_EQ(weft::detail::heap_arenas(rows.data(), 1, count), 0);
  EXPECT_EQ(count, info().heap_count);
  EXPECT_GT(rows[0].held, 0u);
  EXPECT_EQ(rows[1].held, 7u);
}

TEST(Glibc, WhileOtherThreadsAllocate) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&stop, i] {
      for (size_t n = 0; !stop; ++n) free(g_malloc(16 + (n * 7919 + static_cast<size_t>(i)) % 200'000));
    });
  for (int i = 0; i < 300; ++i) {
    EXPECT_GT(info().heap_used, 0u);
    for (const Arena& arena : arenas()) EXPECT_EQ(arena.used + arena.top + arena.fragmented(), arena.held);
    if (i % 10 == 0) trim();
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

TEST(Glibc, InAForkChildAndInAFiber) {
  const pid_t child = fork();
  if (child == 0) _exit(info().heap_used > 0 && !arenas().empty() ? 0 : 1);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_GT(weft::spawn([] { return info().heap_used + arenas().size(); }).result(), 0u);
}

}  // namespace
}  // namespace weft::heap
