// glibc's malloc (ptmalloc): mallinfo2(3) and malloc_info(3), both of which go through all arenas.
//
// Of an arena malloc_info() tells what it has from the kernel ("system current"), and what of that is free:
// the small blocks kept as they are ("fast"), and all other ("rest"), which is the blocks between others and
// the end, its top. The free blocks are listed by size besides, both kinds; the top is not: so it is what the
// list lacks of the totals. Free blocks in a thread's cache (tcache) are in use as far as the arenas know.
//
// The sizes of the other ones are the words that stand before the blocks, with the flags in their lowest four
// bits (as of glibc 2.36): a block is a multiple of 16 bytes, so the flags are seen in the largest of a line,
// and are the same for all.
#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "heap/allocator.hpp"
#include "heap/line_stream.hpp"

namespace weft::heap {

namespace {

// The number in ` name="123"` of a line.
uint64_t attribute(const char* line, const char* name) noexcept {
  char wanted[32];
  snprintf(wanted, sizeof wanted, " %s=\"", name);
  const char* const found = strstr(line, wanted);
  unsigned long long number = 0;
  return found && sscanf(found + strlen(wanted), "%llu", &number) == 1 ? number : 0;
}

// Takes malloc_info()'s XML by lines.
class ArenaReader {
 public:
  ArenaReader(HeapArena* arenas, size_t room) noexcept : arenas_(arenas), room_(room) {}

  size_t count() const noexcept { return count_; }

  void take(const char* line) noexcept {
    const auto has = [line](const char* word) { return strstr(line, word) != nullptr; };
    if (has("<heap ")) {
      in_heap_ = true;
      arena_ = {attribute(line, "nr"), 0, 0, 0};
      free_ = listed_ = flags_ = 0;
    } else if (has("</heap>")) {
      in_heap_ = false;
      arena_.used = arena_.held + flags_ - free_;
      arena_.top = free_ - listed_;
      if (count_ < room_) arenas_[count_] = arena_;
      ++count_;
    } else if (!in_heap_) {
      return;
    } else if (has("<size ") || has("<unsorted ")) {
      listed_ += attribute(line, "total");
      flags_ += attribute(line, "count") * (attribute(line, "to") % 16);
    } else if (has("<total type=\"fast\"") || has("<total type=\"rest\"")) {
      free_ += attribute(line, "size");
    } else if (has("<system type=\"current\"")) {
      arena_.held = attribute(line, "size");
    }
  }

 private:
  HeapArena* const arenas_;
  const size_t room_;
  size_t count_ = 0;
  bool in_heap_ = false;
  HeapArena arena_;
  uint64_t free_ = 0, listed_ = 0, flags_ = 0;
};

int arenas(HeapArena* arenas, size_t room, size_t& count) noexcept {
  ArenaReader reader(arenas, room);
  {
    const LineStream stream(
        &reader, [](void* who, const char* line) noexcept { static_cast<ArenaReader*>(who)->take(line); });
    if (!stream.file()) return ENOMEM;
    if (malloc_info(0, stream.file()) != 0) return ENOTSUP;
  }
  count = reader.count();
  return 0;
}

// malloc_info() takes as long as ten mallinfo2() and more, so it is asked for the number of arenas only where
// those of threads hold another sum than at the last time: all but what the main one has, which grows and
// shrinks by brk(2). A new arena has 132 KiB at once, and none is ever given up. Were others to give back
// just as much meanwhile, the new one would be counted at the next change.
int count_arenas(uint64_t held, uint64_t& number, bool& asked) noexcept {
  constexpr unsigned kNumberBits = 16;
  constexpr uint64_t kMost = (1u << kNumberBits) - 1;
  // One word, so that no thread takes a number for another state than its own.
  static constinit std::atomic<uint64_t> last{0};
  const uint64_t state = (held - reinterpret_cast<uintptr_t>(sbrk(0))) << kNumberBits;
  const uint64_t known = last.load(std::memory_order_relaxed);
  number = known & kMost;
  if (number != 0 && known == (state | number)) return 0;
  size_t count = 0;
  asked = true;
  if (const int error = arenas(nullptr, 0, count)) return error;
  number = count;
  if (number <= kMost) last.store(state | number, std::memory_order_relaxed);
  return 0;
}

int figures(HeapFigures& figures) noexcept {
  struct mallinfo2 all = mallinfo2();
  bool asked = false;
  if (const int error = count_arenas(all.arena, figures.count, asked)) return error;
  // The stream that was written to is in the thread's cache from now on: the next call must not find more in
  // use than this one.
  if (asked) all = mallinfo2();
  figures.used = all.uordblks;
  figures.mapped = all.hblkhd;
  return 0;
}

int trim(bool& released) noexcept {
  released = malloc_trim(0) != 0;
  return 0;
}

}  // namespace

AllocatorCalls glibc_calls(const void* base) noexcept {
  if (!symbol_of(base, "gnu_get_libc_version")) return {};
  AllocatorCalls calls;
  calls.lacks = "is that of a glibc older than 2.33, which counts with 32 bits";
  return symbol_of(base, "mallinfo2") ? AllocatorCalls{HeapOwner::kGlibc, figures, trim, arenas} : calls;
}

}  // namespace weft::heap
