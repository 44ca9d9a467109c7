// Which code allocates: samples of allocations with the stacks that made them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "weft/detail/core.hpp"

namespace weft::detail {

/// Bytes between two samples, on average: what tcmalloc's and Go's profilers take.
inline constexpr size_t kHeapProfileInterval = size_t{512} << 10;

/// Begins to sample, and forgets what was sampled before. A byte of what is allocated is the one at which a
/// sample is taken with the probability 1/interval, so that large blocks are more often in it; 1: every
/// allocation is. `seed` makes runs alike; 0: a random one. Returns 0 or an errno: EALREADY: it has begun; as
/// heap_count_begin(), which it includes. Any thread; never suspends. A sample takes 12 KiB of the stack of
/// who allocates.
WEFT_API int heap_profile_begin(size_t interval = kHeapProfileInterval, uint64_t seed = 0) noexcept;

/// Ends it. What was found stays to be asked for.
WEFT_API void heap_profile_end() noexcept;

/// Keeps with each site what is alive now, and returns how many marks there have been since it began. Of the
/// last HeapSite::kMarks of them it stays known.
WEFT_API uint32_t heap_profile_mark() noexcept;

/// While it lives, what the calling OS thread allocates is not sampled: for who looks at the heap. REQUIRES:
/// no fiber switches meanwhile, and it is destroyed on the same thread. Nests.
class WEFT_API HeapProfilePause {
 public:
  HeapProfilePause() noexcept;
  ~HeapProfilePause();
  HeapProfilePause(const HeapProfilePause&) = delete;
  HeapProfilePause& operator=(const HeapProfilePause&) = delete;
};

/// A line of a stack. The texts live as long as the call that hands them out.
struct HeapFrame {
  bool python = false;
  uintptr_t address = 0;      ///< native: in the instruction that calls on
  const char* function = "";  ///< as one writes it; "": not known
  const char* file = "";      ///< Python: of the code; native: the library or program
  int line = 0;               ///< Python only; 0: not known
};

/// One stack that allocated. Estimates, from the samples, of all that it did: without bias, and exact with an
/// interval of 1.
struct HeapSite {
  static constexpr uint32_t kMarks = 8;

  const HeapFrame* frames = nullptr;  ///< the innermost first; Python's stand where the loop ran them
  size_t frame_count = 0;
  uint64_t samples = 0;
  double made_blocks = 0, made_bytes = 0;  ///< ever
  double live_blocks = 0, live_bytes = 0;  ///< of them, not freed
  /// live_blocks at the marks: the newest is marked[(marks - 1) % kMarks].
  const double* marked = nullptr;
};

struct HeapProfile {
  size_t interval = 0;
  uint32_t sites = 0, marks = 0;
  uint64_t samples = 0;
  uint64_t lost = 0;  ///< samples for which there was no memory
};

/// Calls visit(argument, site) for each site, in the order in which they were first seen. Returns 0 or
/// ENOMEM. Allocates.
WEFT_API int heap_profile_visit(void (*visit)(void* argument, const HeapSite& site), void* argument,
                                HeapProfile* profile = nullptr) noexcept;

/// Writes a profile in pprof's format, not compressed, to a new file that then takes the place of `path`:
/// what is alive and what was ever allocated, in blocks and bytes. Returns 0 or an errno. Blocks.
WEFT_API int heap_profile_write_pprof(const char* path) noexcept;

enum class HeapMeasure : uint8_t { kLiveBytes, kLiveBlocks, kMadeBytes, kMadeBlocks };

/// Writes a flame graph as an SVG, which needs nothing else, in the same way.
WEFT_API int heap_profile_write_svg(const char* path, HeapMeasure measure = HeapMeasure::kLiveBytes,
                                    const char* title = "") noexcept;

}  // namespace weft::detail
