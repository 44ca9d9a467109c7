// What weft::heap says in this process: the allocator, by how much the bytes in use grow when blocks of 1,000
// bytes are allocated here and freed by another thread, and whether the arenas have as much. With an argument
// it first loads that library. On standard error what was refused; exit code 3.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "weft/heap.hpp"

namespace {

constexpr size_t kBlocks = 1000;
void* g_blocks[kBlocks];
void* (*volatile g_malloc)(size_t);

size_t sum_of_arenas() {
  size_t sum = 0;
  for (const weft::heap::Arena& arena : weft::heap::arenas()) sum += arena.used;
  return sum;
}

}  // namespace

int main(int count, char** arguments) try {
  // Code at a fixed address takes that of a stub in the program, which then is the function's for all.
  g_malloc = malloc;
  if (count > 1) {
    setenv("LD_PRELOAD", arguments[1], 1);
    if (!dlopen(arguments[1], RTLD_NOW | RTLD_GLOBAL)) {
      fprintf(stderr, "%s\n", dlerror());
      return 4;
    }
  }
  static const char* const kNames[] = {"glibc", "jemalloc", "mimalloc"};
  printf("%s\n", kNames[static_cast<int>(weft::heap::allocator())]);
  sum_of_arenas();
  {
    // The first thread of all leaves something behind.
    std::thread([] { free(g_malloc(1)); }).join();
  }
  std::thread other;
  const size_t before = weft::heap::info().heap_used;
  for (void*& block : g_blocks) block = g_malloc(1000);
  const size_t after = weft::heap::info().heap_used;
  const size_t in_arenas = sum_of_arenas();
  // Of one thread the figures are exact to the byte; freeing by another takes the thread itself.
  other = std::thread([] {
    for (void* block : g_blocks) free(block);
  });
  other.join();
  const size_t freed = after - weft::heap::info().heap_used;
  printf("grown by %zu\n", after - before);
  printf("freed %s\n", freed + 2000 > after - before ? "all" : "less");
  printf("arenas %s\n", in_arenas + 4096 > after && after + 4096 > in_arenas ? "agree" : "differ");
  weft::heap::trim();
  return 0;
} catch (const weft::heap::NotSupported& error) {
  fprintf(stderr, "%s\n", error.what());
  return 3;
}
