#include "fiber/stack_pool.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <set>
#include <thread>
#include <vector>

namespace weft::engine {
namespace {

constexpr size_t kPage = 4096;

bool sanitized() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return true;
#else
  return false;
#endif
}

size_t resident_pages(const std::byte* from, const std::byte* to) {
  auto* first = reinterpret_cast<std::byte*>(reinterpret_cast<uintptr_t>(from) & ~(kPage - 1));
  std::vector<unsigned char> present((static_cast<size_t>(to - first) + kPage - 1) / kPage);
  EXPECT_EQ(mincore(first, static_cast<size_t>(to - first), present.data()), 0);
  size_t count = 0;
  for (const unsigned char page : present) count += page & 1;
  return count;
}

class StackPools : public testing::TestWithParam<GuardKind> {
 protected:
  void SetUp() override {
    if (GetParam() == GuardKind::kAdvice && StackPool::probe_guard_kind() != GuardKind::kAdvice)
      GTEST_SKIP() << "this kernel has no MADV_GUARD_INSTALL";
    pool_ = std::make_unique<StackPool>(GetParam());
  }
  std::unique_ptr<StackPool> pool_;
};

INSTANTIATE_TEST_SUITE_P(Guards, StackPools, testing::Values(GuardKind::kAdvice, GuardKind::kProtect),
                         [](const auto& test) {
                           return test.param == GuardKind::kAdvice ? "Advice" : "Protect";
                         });

TEST_P(StackPools, StackIsUsableFromBaseToTop) {
  for (const size_t size :
       {size_t{1}, StackPool::kMinimumSize, size_t{20'000}, StackPool::kDefaultSize, size_t{8} << 20}) {
    // Every stagger leaves as much as was asked for.
    for (int i = 0; i < 16; ++i) {
      const Stack stack = pool_->allocate(size);
      ASSERT_TRUE(stack);
      EXPECT_GE(stack.size(), std::max(size, StackPool::kMinimumSize));
      EXPECT_EQ(reinterpret_cast<uintptr_t>(stack.top) % 64, 0u);
      *stack.base = std::byte{1};
      *(stack.top - 1) = std::byte{2};
      memset(stack.top - 1000, 3, 1000);
      EXPECT_EQ(*stack.base, std::byte{1});
    }
  }
}

TEST_P(StackPools, GuardLiesRightBelowTheBaseAndNowhereElse) {
  const Stack stack = pool_->allocate(64 * 1024), neighbour = pool_->allocate(64 * 1024);
  EXPECT_TRUE(pool_->is_guard(stack.base - 1));
  EXPECT_TRUE(pool_->is_guard(stack.base - kPage));
  EXPECT_TRUE(pool_->is_guard(neighbour.base - 1));
  EXPECT_FALSE(pool_->is_guard(stack.base));
  EXPECT_FALSE(pool_->is_guard(stack.top - 1));
  EXPECT_FALSE(pool_->is_guard(nullptr));
  EXPECT_FALSE(pool_->is_guard(&stack));
}

TEST_P(StackPools, OverflowFaultsOnTheGuard) {
  static StackPool* pool;  // for the handler
  pool = pool_.get();
  const Stack stack = pool_->allocate(64 * 1024);
  volatile std::byte* below = stack.base - 1;
  const auto overflow = [&] {
    struct sigaction action {};
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = [](int, siginfo_t* info, void*) { _exit(pool->is_guard(info->si_addr) ? 42 : 43); };
    sigaction(SIGSEGV, &action, nullptr);
    *below = std::byte{1};
  };
  EXPECT_EXIT(overflow(), testing::ExitedWithCode(42), "");
}

TEST_P(StackPools, ReleasedStackIsHandedOutAgainWithItsGuard) {
  const Stack first = pool_->allocate(64 * 1024), second = pool_->allocate(64 * 1024);
  EXPECT_NE(first.base, second.base);
  pool_->release(first);
  const Stack again = pool_->allocate(64 * 1024);
  EXPECT_EQ(again.base, first.base);
  EXPECT_EQ(again.top, first.top);
  EXPECT_TRUE(pool_->is_guard(again.base - 1));
  // Another size does not get it.
  pool_->release(again);
  EXPECT_NE(pool_->allocate(128 * 1024).base, first.base);
}

TEST_P(StackPools, FewFreeStacksKeepTheirMemoryAndManyGiveItBack) {
  constexpr int kStacks = 3000, kTouched = 6;
  std::vector<Stack> stacks;
  for (int i = 0; i < kStacks; ++i) {
    stacks.push_back(pool_->allocate(32 * 1024));
    ASSERT_TRUE(stacks.back());
    memset(stacks.back().top - kTouched * kPage, 1, kTouched * kPage);
  }
  const auto resident = [&] {
    size_t pages = 0;
    for (const Stack& stack : stacks) pages += resident_pages(stack.base, stack.top);
    return pages;
  };
  EXPECT_GE(resident(), size_t{kStacks} * kTouched);
  for (const Stack& stack : stacks) pool_->release(stack);
  const size_t kept = resident();
  EXPECT_LE(kept, size_t{kStacks} * kTouched / 2);
  EXPECT_GE(kept, 100u);

  // All come back, each once, in working order.
  std::set<std::byte*> bases;
  for (const Stack& stack : stacks) bases.insert(stack.base);
  for (int i = 0; i < kStacks; ++i) {
    const Stack stack = pool_->allocate(32 * 1024);
    EXPECT_EQ(bases.erase(stack.base), 1u);
    memset(stack.base, 2, stack.size());
  }
  EXPECT_TRUE(bases.empty());
}

TEST_P(StackPools, TopsAreStaggered) {
  std::set<uintptr_t> offsets;
  for (int i = 0; i < 8; ++i)
    offsets.insert(reinterpret_cast<uintptr_t>(pool_->allocate(64 * 1024).top) % kPage);
  EXPECT_EQ(offsets.size(), 8u);
}

TEST_P(StackPools, AnyNumberOfDifferentSizesIsServed) {
  std::vector<Stack> stacks;
  for (size_t i = 0; i < 300; ++i) {
    stacks.push_back(pool_->allocate(StackPool::kMinimumSize + i * kPage));
    ASSERT_TRUE(stacks.back()) << i;
    EXPECT_GE(stacks.back().size(), StackPool::kMinimumSize + i * kPage);
    EXPECT_TRUE(pool_->is_guard(stacks.back().base - 1));
  }
  for (const Stack& stack : stacks) pool_->release(stack);
}

TEST_P(StackPools, AbsurdSizeIsRefused) {
  errno = 0;
  EXPECT_FALSE(pool_->allocate(SIZE_MAX));
  EXPECT_EQ(errno, ENOMEM);
  errno = 0;
  EXPECT_FALSE(pool_->allocate(size_t{1} << 47));
  EXPECT_EQ(errno, ENOMEM);
}

TEST_P(StackPools, RunsOutWithEnomemUnderALimitOnAddressSpaceAndGoesOn) {
  if (sanitized()) GTEST_SKIP() << "sanitizers need their terabytes";
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const rlimit limit{size_t{1} << 30, size_t{1} << 30};
    setrlimit(RLIMIT_AS, &limit);
    std::vector<Stack> stacks;
    stacks.reserve(10'000);
    for (Stack stack; (stack = pool_->allocate(1 << 20)); stacks.push_back(stack))
      if (stacks.size() == 2000) _exit(1);
    if (errno != ENOMEM) _exit(2);
    if (stacks.size() < 500) _exit(3);  // smaller slabs used up what was left
    pool_->release(stacks.back());
    if (!pool_->allocate(1 << 20)) _exit(4);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_P(StackPools, ForkedChildStartsAfreshAndMayReleaseWhatItHas) {
  const Stack mine = pool_->allocate(64 * 1024);
  for (int i = 0; i < 10; ++i) pool_->release(pool_->allocate(64 * 1024));
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    pool_->reset_after_fork();
    pool_->release(mine);
    const Stack again = pool_->allocate(64 * 1024), fresh = pool_->allocate(64 * 1024);
    if (again.base != mine.base) _exit(1);
    if (!fresh || fresh.base == mine.base) _exit(2);
    *fresh.base = std::byte{1};
    if (!pool_->is_guard(mine.base - 1) || !pool_->is_guard(fresh.base - 1)) _exit(3);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_P(StackPools, ThreadsNeverShareAStack) {
  constexpr int kThreads = 4, kRounds = 2000;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([this, t] {
      std::vector<Stack> held;
      for (int round = 0; round < kRounds; ++round) {
        const Stack stack = pool_->allocate(16 * 1024);
        *stack.base = static_cast<std::byte>(t);
        *(stack.top - 1) = static_cast<std::byte>(t);
        held.push_back(stack);
        if (held.size() < 8) continue;
        for (const Stack& one : held) {
          EXPECT_EQ(*one.base, static_cast<std::byte>(t));
          EXPECT_EQ(*(one.top - 1), static_cast<std::byte>(t));
          pool_->release(one);
        }
        held.clear();
      }
    });
  for (auto& thread : threads) thread.join();
}

TEST(StackPool, InstanceUsesWhatTheKernelOffers) {
  EXPECT_EQ(StackPool::instance().guard_kind(), StackPool::probe_guard_kind());
}

}  // namespace
}  // namespace weft::engine
