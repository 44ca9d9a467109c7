#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "weft/detail/heap_count.hpp"
#include "weft/patch.hpp"

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

TEST(HeapCount, IsRefusedWhereASanitizerAllocates) {
  EXPECT_EQ(weft::detail::heap_count_begin(), ENOTSUP);
  weft::detail::heap_count_end();
  EXPECT_EQ(weft::detail::heap_counts().made, 0u);
}

#else

using weft::detail::heap_count_begin;
using weft::detail::heap_count_end;
using weft::detail::heap_counts;
using weft::detail::HeapCounts;

HeapCounts operator-(const HeapCounts& now, const HeapCounts& then) {
  return {now.blocks - then.blocks, now.bytes - then.bytes, now.mappings - then.mappings,
          now.made - then.made};
}

// Keeps the compiler from leaving out an allocation that nobody uses.
template <typename Value>
Value* used(Value* block) {
  asm volatile("" : "+r"(block) : : "memory");
  return block;
}
size_t huge() {
  volatile size_t size = SIZE_MAX / 2;
  return size;
}

class Counting {
 public:
  Counting() : error_(heap_count_begin()) {}
  ~Counting() {
    if (error_ == 0) heap_count_end();
  }
  int error() const { return error_; }

 private:
  int error_;
};

class HeapCount : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(counting_.error(), 0);
    start();
  }
  void start() { start_ = heap_counts(); }
  HeapCounts since() { return heap_counts() - start_; }

  // What was made since the last look is `blocks` more, all of them `bytes` large.
  void expect(int64_t blocks, int64_t bytes, uint64_t made) {
    const HeapCounts grown = since();
    EXPECT_EQ(grown.blocks, blocks);
    EXPECT_EQ(grown.bytes, bytes);
    EXPECT_EQ(grown.made, made);
    start();
  }
  void expect_made(void* block) { expect(1, static_cast<int64_t>(malloc_usable_size(block)), 1); }
  void expect_freed(size_t bytes) { expect(-1, -static_cast<int64_t>(bytes), 0); }
  void free_and_expect(void* block) {
    const size_t bytes = malloc_usable_size(block);
    free(block);
    expect_freed(bytes);
  }

  Counting counting_;
  HeapCounts start_;
};

TEST_F(HeapCount, EachFunctionIsCountedOnce) {
  void* block = used(malloc(100));
  expect_made(block);
  free_and_expect(block);

  block = used(calloc(7, 100));
  expect_made(block);
  free_and_expect(block);

  block = used(aligned_alloc(64, 128));
  expect_made(block);
  free_and_expect(block);

  block = used(memalign(256, 100));
  expect_made(block);
  free_and_expect(block);

  ASSERT_EQ(posix_memalign(&block, 4096, 100), 0);
  expect_made(block);
  free_and_expect(block);

  block = used(valloc(100));
  expect_made(block);
  free_and_expect(block);

  block = used(pvalloc(100));
  expect_made(block);
  free_and_expect(block);

  // So large that libc maps it.
  block = used(malloc(size_t{8} << 20));
  expect_made(block);
  free_and_expect(block);

  free(used<void>(nullptr));
  expect(0, 0, 0);
}

TEST_F(HeapCount, Realloc) {
  void* block = used(realloc(used<void>(nullptr), 100));
  expect_made(block);

  size_t former = malloc_usable_size(block);
  block = used(realloc(block, 100'000));
  expect(0, static_cast<int64_t>(malloc_usable_size(block) - former), 1);

  // One that moves: the next block is in the way.
  void* neighbour = used(malloc(100'000));
  start();
  former = malloc_usable_size(block);
  block = used(realloc(block, 300'000));
  expect(0, static_cast<int64_t>(malloc_usable_size(block) - former), 1);
  free(neighbour);
  start();

  former = malloc_usable_size(block);
  block = used(realloc(block, 50));
  expect(0, static_cast<int64_t>(malloc_usable_size(block)) - static_cast<int64_t>(former), 1);

  EXPECT_EQ(used(realloc(block, huge())), nullptr);
  expect(0, 0, 0);

  former = malloc_usable_size(block);
  volatile size_t nothing = 0;
  EXPECT_EQ(used(realloc(block, nothing)), nullptr);
  expect_freed(former);
}

TEST_F(HeapCount, Reallocarray) {
  void* block = used(reallocarray(nullptr, 10, 100));
  expect_made(block);
  const size_t former = malloc_usable_size(block);
  block = used(reallocarray(block, 1000, 100));
  expect(0, static_cast<int64_t>(malloc_usable_size(block) - former), 1);
  errno = 0;
  EXPECT_EQ(used(reallocarray(block, huge(), 16)), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  expect(0, 0, 0);
  free_and_expect(block);
}

TEST_F(HeapCount, FailuresAreNotCounted) {
  const auto failed = [this](void* block) {
    EXPECT_EQ(used(block), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    expect(0, 0, 0);
  };
  failed(malloc(huge()));
  failed(calloc(huge(), 16));
  failed(aligned_alloc(64, huge()));
  failed(memalign(64, huge()));
  failed(valloc(huge()));
  failed(pvalloc(huge()));
  void* block = nullptr;
  EXPECT_EQ(posix_memalign(&block, 64, huge()), ENOMEM);
  EXPECT_EQ(posix_memalign(&block, 3, 64), EINVAL);
  expect(0, 0, 0);
  EXPECT_EQ(mmap(nullptr, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), MAP_FAILED);
  EXPECT_EQ(munmap(reinterpret_cast<void*>(1), 4096), -1);
  EXPECT_EQ(since().mappings, 0);
}

TEST_F(HeapCount, WhatLibcAllocatesItself) {
  char* copy = used(strdup("a text that libc copies"));
  expect_made(copy);
  free_and_expect(copy);

  FILE* file = used(fopen("/dev/zero", "r"));
  ASSERT_TRUE(file);
  EXPECT_EQ(since().blocks, 1);
  EXPECT_EQ(fgetc(file), 0);  // has it allocate a buffer
  EXPECT_EQ(since().blocks, 2);
  fclose(file);
  expect(0, 0, 2);

  char* line = nullptr;
  size_t size = 0;
  FILE* text = fmemopen(const_cast<char*>("one\ntwo\n"), 8, "r");
  ASSERT_TRUE(text);
  start();
  EXPECT_EQ(getline(&line, &size, text), 4);
  EXPECT_GE(since().blocks, 1);
  free(line);
  fclose(text);
  EXPECT_LE(since().blocks, 0);
}

TEST_F(HeapCount, NewAndDelete) {
  int* number = used(new int(1));
  expect_made(number);
  delete number;
  EXPECT_EQ(since().blocks, -1);
  start();

  auto* array = used(new std::string[3]);
  EXPECT_EQ(since().blocks, 1);
  delete[] array;
  expect(0, 0, 1);

  struct alignas(128) Aligned {
    char bytes[128];
  };
  auto* aligned = used(new Aligned);
  expect_made(aligned);
  delete aligned;
  EXPECT_EQ(since().blocks, -1);
  start();

  {
    std::string text(1000, 'x');
    expect(1, static_cast<int64_t>(malloc_usable_size(text.data())), 1);
  }
  EXPECT_EQ(since().blocks, -1);
}

TEST_F(HeapCount, ErrnoIsLeftAlone) {
  errno = 12345;
  void* block = used(malloc(100));
  free(block);
  EXPECT_EQ(errno, 12345);
  // A thread's first call has more to do.
  int seen = 0;
  std::thread([&] {
    errno = 12345;
    free(used(malloc(1)));
    seen = errno;
  }).join();
  EXPECT_EQ(seen, 12345);
}

TEST_F(HeapCount, Mappings) {
  constexpr int64_t kPage = 4096;
  const auto mapped = [this] {
    const int64_t bytes = since().mappings;
    start();
    return bytes;
  };
  void* pages = mmap(nullptr, 5 * kPage - 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  EXPECT_EQ(mapped(), 5 * kPage);
  // Into what was reserved.
  ASSERT_EQ(mmap(pages, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), pages);
  EXPECT_EQ(mapped(), 0);
  ASSERT_EQ(munmap(pages, kPage), 0);
  EXPECT_EQ(mapped(), -kPage);
  ASSERT_EQ(mmap(pages, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), pages);
  EXPECT_EQ(mapped(), kPage);
  ASSERT_EQ(munmap(pages, 5 * kPage), 0);
  EXPECT_EQ(mapped(), -5 * kPage);

  pages = mmap64(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  EXPECT_EQ(mapped(), kPage);
  pages = mremap(pages, kPage, 3 * kPage, MREMAP_MAYMOVE);
  ASSERT_NE(pages, MAP_FAILED);
  EXPECT_EQ(mapped(), 2 * kPage);
  void* place = mmap(nullptr, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_EQ(munmap(place, kPage), 0);
  pages = mremap(pages, 3 * kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, place);
  ASSERT_EQ(pages, place);
  EXPECT_EQ(mapped(), -2 * kPage);
  ASSERT_EQ(munmap(pages, kPage), 0);
  EXPECT_EQ(mapped(), -kPage);
  expect(0, 0, 0);
}

TEST_F(HeapCount, AnotherThreadFrees) {
  void* block = used(malloc(1000));
  const auto size = static_cast<int64_t>(malloc_usable_size(block));
  std::atomic<void*> handed{nullptr};
  std::atomic<int> step{0};
  std::thread other([&] {
    free(used(malloc(1)));  // whatever a thread does at first
    step.store(1);
    step.notify_one();
    handed.wait(nullptr);
    free(handed.load());
    step.store(2);
    step.notify_one();
    step.wait(2);
  });
  step.wait(0);
  start();
  handed.store(block);
  handed.notify_one();
  step.wait(1);
  expect(-1, -size, 0);
  step.store(3);
  step.notify_one();
  other.join();
}

TEST_F(HeapCount, WhatAnEndedThreadCountedStays) {
  std::vector<void*> blocks(100);
  std::thread([&] { used(malloc(1)); }).join();  // what starting a thread takes for good
  start();
  std::thread([&] {
    for (void*& block : blocks) block = used(malloc(64));
  }).join();
  EXPECT_EQ(since().blocks, 100);
  // The next ones go on where it counted.
  for (int i = 0; i < 5; ++i)
    std::thread([&] {
      for (int j = 0; j < 20; ++j) free(blocks[static_cast<size_t>(i * 20 + j)]);
    }).join();
  EXPECT_EQ(since().blocks, 0);
  EXPECT_EQ(since().bytes, 0);
}

thread_local std::unique_ptr<std::string> t_variable;

// A key's destructors run after those of thread_local variables, in any order among themselves.
TEST_F(HeapCount, WhatDestructorsOfAThreadDoCounts) {
  static pthread_key_t keys[3];
  for (pthread_key_t& key : keys)
    ASSERT_EQ(pthread_key_create(&key,
                                 [](void* block) {
                                   free(block);
                                   free(used(malloc(3000)));
                                 }),
              0);
  const auto life = [] {
    std::thread([] {
      t_variable = std::make_unique<std::string>(1000, 'x');
      for (pthread_key_t key : keys) pthread_setspecific(key, used(malloc(2000)));
    }).join();
  };
  life();
  start();
  life();
  EXPECT_EQ(since().blocks, 0);
  EXPECT_EQ(since().bytes, 0);
  EXPECT_GE(since().made, 8u);
  for (pthread_key_t key : keys) pthread_key_delete(key);
}

TEST_F(HeapCount, ThreadsAtOnce) {
  constexpr int kThreads = 8, kRounds = 50'000, kKept = 10;
  std::vector<std::thread> threads;
  std::vector<std::vector<void*> > kept(kThreads, std::vector<void*>(kKept));
  std::latch ready(kThreads), begin(1), ended(kThreads);
  std::latch end(1);
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      free(used(malloc(1)));
      ready.count_down();
      begin.wait();
      for (int i = 0; i < kRounds; ++i) free(used(malloc(static_cast<size_t>(16 + (i * 7 + t) % 500))));
      for (void*& block : kept[static_cast<size_t>(t)]) block = used(malloc(48));
      ended.count_down();
      end.wait();
    });
  ready.wait();
  start();
  begin.count_down();
  ended.wait();
  const auto size = static_cast<int64_t>(malloc_usable_size(kept[0][0]));
  expect(kThreads * kKept, kThreads * kKept * size, kThreads * (kRounds + kKept));
  end.count_down();
  for (std::thread& thread : threads) thread.join();
  start();
  for (auto& blocks : kept)
    for (void* block : blocks) free(block);
  expect(-kThreads * kKept, -kThreads * kKept * size, 0);
}

TEST_F(HeapCount, NestsAndEnds) {
  ASSERT_EQ(heap_count_begin(), 0);
  heap_count_end();
  void* block = used(malloc(10));
  expect_made(block);
  heap_count_end();
  free(block);
  free(used(malloc(10)));
  char* copy = used(strdup("x"));
  free(copy);
  expect(0, 0, 0);
  ASSERT_EQ(heap_count_begin(), 0);
  block = used(malloc(10));
  expect_made(block);
  free_and_expect(block);
}

struct Library {
  Library() : handle(dlopen(WEFT_FIXTURE, RTLD_NOW | RTLD_LOCAL)) {
    if (!handle) return;
    allocate = reinterpret_cast<void* (*)(size_t)>(dlsym(handle, "fixture_malloc"));
    release = reinterpret_cast<void (*)(void*)>(dlsym(handle, "fixture_free"));
    load = reinterpret_cast<void* (*)(const char*)>(dlsym(handle, "fixture_load"));
    map = reinterpret_cast<void* (*)(size_t)>(dlsym(handle, "fixture_map"));
  }
  ~Library() {
    if (handle) dlclose(handle);
  }
  void* handle;
  void* (*allocate)(size_t) = nullptr;
  void (*release)(void*) = nullptr;
  void* (*map)(size_t) = nullptr;
  void* (*load)(const char*) = nullptr;
};

TEST_F(HeapCount, ALibraryLoadedMeanwhile) {
  for (int i = 0; i < 3; ++i) {
    Library library;
    ASSERT_TRUE(library.handle);
    start();  // looks for what is new
    void* block = library.allocate(100);
    expect_made(block);
    const size_t size = malloc_usable_size(block);
    library.release(block);
    expect_freed(size);
    void* pages = library.map(4096);
    EXPECT_EQ(since().mappings, 4096);
    munmap(pages, 4096);
  }
}

// The loader allocates by pointers of its own. What it does so must not be freed by a slot, or it would seem
// to shrink.
TEST_F(HeapCount, ALibraryThatIsNotThere) {
  const auto fail = [] {
    EXPECT_FALSE(dlopen("libweft-is-not-there.so", RTLD_NOW));
    EXPECT_TRUE(dlerror());
  };
  fail();
  start();
  for (int i = 0; i < 10; ++i) fail();
  EXPECT_EQ(since().blocks, 0);
}

TEST_F(HeapCount, ALibraryLoadedBefore) {
  heap_count_end();
  {
    Library library;
    ASSERT_TRUE(library.handle);
    ASSERT_EQ(heap_count_begin(), 0);
    start();
    void* block = library.allocate(100);
    expect_made(block);
    heap_count_end();
    library.release(block);
    library.release(library.allocate(100));
    expect(0, 0, 0);
  }
  ASSERT_EQ(heap_count_begin(), 0);
}

// What it does before the next look is not missed where its dlopen is a routed call.
TEST_F(HeapCount, ALibraryLoadedByARoutedCall) {
  Library library;
  ASSERT_TRUE(library.handle);
  const weft::Patch patch;
  start();
  void* other = library.load(WEFT_FIXTURE_OTHER);
  ASSERT_TRUE(other);
  auto* allocate = reinterpret_cast<void* (*)(size_t)>(dlsym(other, "fixture_malloc"));
  for (int i = 0; i < 1000; ++i) free(allocate(100));
  EXPECT_GE(since().made, 1000u);
  EXPECT_GT(since().blocks, -10);
  dlclose(other);
}

TEST_F(HeapCount, AChildGoesOnCounting) {
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop.load()) free(used(malloc(100)));
  });
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const HeapCounts then = heap_counts();
      void* block = used(malloc(100));
      const HeapCounts now = heap_counts() - then;
      bool right =
          now.blocks == 1 && now.made == 1 && now.bytes == static_cast<int64_t>(malloc_usable_size(block));
      // Slots of threads that are gone are given to new ones.
      std::thread([] { used(malloc(1)); }).join();
      right = right && heap_count_begin() == 0;
      heap_count_end();
      heap_count_end();
      const HeapCounts ended = heap_counts();
      free(used(malloc(10)));
      right = right && (heap_counts() - ended).made == 0;
      _exit(right ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  stop.store(true);
  busy.join();
}

#endif

}  // namespace
