#include "unit/leaks/corpus.hpp"

#include <sys/mman.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <memory_resource>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace weft::test {
namespace {

// The compiler must not see that nobody reads it: it leaves out pairs of allocating and freeing, too.
template <typename Value>
Value* made(Value* block) {
  asm volatile("" : "+r"(block) : : "memory");
  return block;
}

constexpr const char* kText = "a text that is too long to be kept within its string";

// --- Clean.

void frees_a_block() {
  free(made(malloc(64)));
}

void deletes_an_array() {
  delete[] made(new int[100]);
}

void frees_what_realloc_returned() {
  void* block = made(malloc(16));
  block = made(realloc(block, 5000));
  free(block);
}

void frees_aligned_blocks() {
  free(made(aligned_alloc(64, 256)));
  void* block = nullptr;
  if (posix_memalign(&block, 4096, 100) == 0) free(made(block));
}

void reads_lines() {
  static char input[] = "one\ntwo\nthree";
  FILE* const stream = fmemopen(input, sizeof input - 1, "r");
  char* line = nullptr;
  size_t room = 0;
  while (stream && getline(&line, &room, stream) > 0) made(line);
  free(line);
  if (stream) fclose(stream);
}

void fills_containers() {
  std::map<int, std::vector<std::string>> map;
  for (int i = 0; i < 20; ++i) map[i % 5].emplace_back(kText);
  made(&map);
}

struct Node {
  std::string text = kText;
  std::shared_ptr<Node> next;
  std::weak_ptr<Node> previous;
};

void points_back_weakly() {
  const auto first = std::make_shared<Node>();
  first->next = std::make_shared<Node>();
  first->next->previous = first;
}

void cleans_up_when_it_throws() {
  try {
    const std::unique_ptr<char[]> buffer(made(new char[100]));
    throw std::runtime_error(kText);
  } catch (const std::exception&) {
  }
}

void fills_a_cache() {
  static std::array<char*, 100> cache;
  static unsigned calls;
  char*& entry = cache[calls++ * 37 % cache.size()];
  if (!entry) entry = made(strdup(kText));
}

void keeps_a_history() {
  static std::array<void*, 64> history;
  static unsigned calls;
  void*& oldest = history[calls++ % history.size()];
  free(std::exchange(oldest, made(malloc(16 + calls % 500))));
}

void replaces_what_a_global_has() {
  static std::string* current;
  delete std::exchange(current, made(new std::string(kText)));
}

void grows_a_buffer_until_it_fits() {
  static char* buffer;
  static size_t size;
  if (size >= 200 * 64) return;
  size += 64;
  buffer = made(static_cast<char*>(realloc(buffer, size)));
}

void makes_a_singleton() {
  static auto* const single = new std::string(kText);
  made(single);
}

void keeps_a_pointer_to_the_middle() {
  static char* middle;
  if (middle) free(middle - 32);
  middle = made(static_cast<char*>(malloc(64))) + 32;
}

void frees_in_another_thread() {
  void* const block = made(malloc(64));
  std::thread([block] { free(block); }).join();
}

void frees_what_another_thread_made() {
  void* block = nullptr;
  std::thread([&] { block = made(malloc(64)); }).join();
  free(block);
}

void ends_a_thread_with_locals() {
  std::thread([] {
    thread_local std::vector<std::string> texts;
    texts.emplace_back(kText);
    made(&texts);
  }).join();
}

void releases_a_memory_resource() {
  std::pmr::monotonic_buffer_resource resource;
  std::pmr::vector<std::pmr::string> texts(&resource);
  for (int i = 0; i < 50; ++i) texts.emplace_back(kText);
  made(&texts);
}

// --- Leaking.

void loses_malloc() {
  made(malloc(64));
}

void loses_calloc() {
  made(calloc(10, 10));
}

void loses_realloc() {
  // realloc() frees the first block; the second is lost.
  void* const block = made(malloc(16));
  made(realloc(block, 5000));
}

void loses_a_block_that_could_not_grow() {
  void* block = made(malloc(16));
  volatile size_t too_much = PTRDIFF_MAX;
  block = made(realloc(block, too_much));  // fails, and the block is still there
  free(block);
}

void loses_aligned_alloc() {
  made(aligned_alloc(64, 256));
}

void loses_posix_memalign() {
  void* block = nullptr;
  if (posix_memalign(&block, 4096, 100) == 0) made(block);
}

void loses_new() {
  made(new int(1));
}

void loses_new_array() {
  made(new std::string[3]);
}

void loses_an_aligned_new() {
  struct alignas(64) Line {
    char bytes[64];
  };
  made(new Line);
}

void loses_strdup() {
  made(strdup(kText));
}

void loses_asprintf() {
  char* text = nullptr;
  if (asprintf(&text, "%s %d", kText, 1) > 0) made(text);
}

void loses_the_buffer_of_getline() {
  static char input[] = "one\ntwo\nthree";
  FILE* const stream = fmemopen(input, sizeof input - 1, "r");
  char* line = nullptr;
  size_t room = 0;
  while (stream && getline(&line, &room, stream) > 0) made(line);
  if (stream) fclose(stream);
}

void loses_a_string() {
  made(new std::string(kText));
}

void loses_a_vector() {
  made(new std::vector<int>(100));
}

void loses_what_a_map_points_to() {
  std::map<int, char*> map;
  for (int i = 0; i < 3; ++i) map[i] = made(strdup(kText));
}

void clears_a_vector_of_pointers() {
  static std::vector<int*> kept;
  kept.push_back(made(new int(1)));
  kept.push_back(made(new int(2)));
  kept.clear();
}

void ties_a_cycle() {
  const auto first = std::make_shared<Node>();
  first->next = std::make_shared<Node>();
  first->next->next = first;
}

void loses_the_rest_of_a_list() {
  struct Link {
    Link* next;
  };
  Link* list = nullptr;
  for (int i = 0; i < 4; ++i) list = made(new Link{list});
  delete list;
}

void releases_a_unique_ptr() {
  auto owner = std::make_unique<std::string>(kText);
  made(owner.release());
}

void loses_what_a_global_had() {
  static char* current;
  if (current) current[0] = 'x';
  current = made(static_cast<char*>(malloc(100)));
}

[[gnu::noinline]] void parse(const char* text) {
  char* const copy = made(strdup(text));
  if (*copy == '!') throw std::invalid_argument(kText);
  free(copy);
}

void loses_when_it_throws() {
  try {
    parse("! what is not closed");
  } catch (const std::invalid_argument&) {
  }
}

[[gnu::noinline]] int convert(const char* text) {
  char* const copy = made(strdup(text));
  if (!strchr(copy, '=')) return -1;
  free(copy);
  return 0;
}

void loses_when_it_returns_early() {
  convert("name=value");
  convert("name");
}

void loses_in_a_thread_that_ends() {
  std::thread([] { made(malloc(64)); }).join();
}

void loses_what_a_threads_local_points_to() {
  std::thread([] {
    thread_local char* text;
    text = made(strdup(kText));
    made(&text);
  }).join();
}

void loses_every_tenth_block() {
  static int calls;
  void* const block = made(malloc(64));
  if (++calls % 10 != 0) free(block);
}

void loses_blocks_of_many_sizes() {
  static size_t calls;
  made(malloc(16 + ++calls % 1000));
}

void loses_a_memory_resource() {
  auto* const resource = made(new std::pmr::monotonic_buffer_resource);
  std::pmr::string text(kText, resource);
  made(&text);
}

void loses_what_a_function_captured() {
  auto* const function = made(new std::function<void()>);
  *function = [text = std::string(kText), more = std::string(kText)] { made(&text); };
}

// --- Of which the two judges say different things, see the table.

void appends_to_a_list_for_ever() {
  struct Link {
    Link* next;
    char more[40];
  };
  static Link* list;
  list = made(new Link{list, {}});
}

void fills_a_cache_without_limit() {
  static auto* const cache = new std::map<uint64_t, std::string>;
  cache->emplace(cache->size(), kText);
}

void leaves_a_stream_open() {
  static char input[] = "text";
  made(fmemopen(input, sizeof input - 1, "r"));
}

void maps_pages() {
  made(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

void loses_at_its_first_call() {
  static const bool once = [] {
    for (int i = 0; i < 20; ++i) made(malloc(64));
    return true;
  }();
  made(&once);
}

void hides_its_pointers() {
  // Links that are stored as exclusive or of two, or with a tag in their upper half, look like this.
  static std::array<uintptr_t, 20> hidden;
  static unsigned calls;
  uintptr_t& place = hidden[calls++ % hidden.size()];
  if (place) free(reinterpret_cast<void*>(~place));
  place = ~reinterpret_cast<uintptr_t>(made(malloc(64)));
}

constexpr bool kClean = false, kLeaks = true;
#define WEFT_CORPUS(function) #function, function
constexpr CorpusFunction kCorpus[] = {
    {WEFT_CORPUS(frees_a_block), kClean},
    {WEFT_CORPUS(deletes_an_array), kClean},
    {WEFT_CORPUS(frees_what_realloc_returned), kClean},
    {WEFT_CORPUS(frees_aligned_blocks), kClean},
    {WEFT_CORPUS(reads_lines), kClean},
    {WEFT_CORPUS(fills_containers), kClean},
    {WEFT_CORPUS(points_back_weakly), kClean},
    {WEFT_CORPUS(cleans_up_when_it_throws), kClean},
    {WEFT_CORPUS(fills_a_cache), kClean},
    {WEFT_CORPUS(keeps_a_history), kClean},
    {WEFT_CORPUS(replaces_what_a_global_has), kClean},
    {WEFT_CORPUS(grows_a_buffer_until_it_fits), kClean},
    {WEFT_CORPUS(makes_a_singleton), kClean},
    {WEFT_CORPUS(keeps_a_pointer_to_the_middle), kClean},
    {WEFT_CORPUS(frees_in_another_thread), kClean},
    {WEFT_CORPUS(frees_what_another_thread_made), kClean},
    {WEFT_CORPUS(ends_a_thread_with_locals), kClean},
    {WEFT_CORPUS(releases_a_memory_resource), kClean},
    {WEFT_CORPUS(loses_malloc), kLeaks},
    {WEFT_CORPUS(loses_calloc), kLeaks},
    {WEFT_CORPUS(loses_realloc), kLeaks},
    {WEFT_CORPUS(loses_a_block_that_could_not_grow), kLeaks},
    {WEFT_CORPUS(loses_aligned_alloc), kLeaks},
    {WEFT_CORPUS(loses_posix_memalign), kLeaks},
    {WEFT_CORPUS(loses_new), kLeaks},
    {WEFT_CORPUS(loses_new_array), kLeaks},
    {WEFT_CORPUS(loses_an_aligned_new), kLeaks},
    {WEFT_CORPUS(loses_strdup), kLeaks},
    {WEFT_CORPUS(loses_asprintf), kLeaks},
    {WEFT_CORPUS(loses_the_buffer_of_getline), kLeaks},
    {WEFT_CORPUS(loses_a_string), kLeaks},
    {WEFT_CORPUS(loses_a_vector), kLeaks},
    {WEFT_CORPUS(loses_what_a_map_points_to), kLeaks},
    {WEFT_CORPUS(clears_a_vector_of_pointers), kLeaks},
    {WEFT_CORPUS(ties_a_cycle), kLeaks},
    {WEFT_CORPUS(loses_the_rest_of_a_list), kLeaks},
    {WEFT_CORPUS(releases_a_unique_ptr), kLeaks},
    {WEFT_CORPUS(loses_what_a_global_had), kLeaks},
    {WEFT_CORPUS(loses_when_it_throws), kLeaks},
    {WEFT_CORPUS(loses_when_it_returns_early), kLeaks},
    {WEFT_CORPUS(loses_in_a_thread_that_ends), kLeaks},
    {WEFT_CORPUS(loses_what_a_threads_local_points_to), kLeaks},
    {WEFT_CORPUS(loses_every_tenth_block), kLeaks},
    {WEFT_CORPUS(loses_blocks_of_many_sizes), kLeaks},
    {WEFT_CORPUS(loses_a_memory_resource), kLeaks},
    {WEFT_CORPUS(loses_what_a_function_captured), kLeaks},
    {WEFT_CORPUS(appends_to_a_list_for_ever), kLeaks, "a global leads to each block"},
    {WEFT_CORPUS(fills_a_cache_without_limit), kLeaks, "a global leads to each block"},
    {WEFT_CORPUS(leaves_a_stream_open), kLeaks, "libc's list of streams leads to each"},
    {WEFT_CORPUS(maps_pages), kLeaks, "it knows blocks, not mappings"},
    {WEFT_CORPUS(loses_at_its_first_call), kClean, "it counts what is lost, not what is lost in each call"},
    {WEFT_CORPUS(hides_its_pointers), kClean, "it does not know the pointers as such"},
};

}  // namespace

std::span<const CorpusFunction> leak_corpus() {
  return kCorpus;
}

}  // namespace weft::test
