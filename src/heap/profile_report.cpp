#include <cerrno>
#include <new>
#include <vector>

#include "heap/profile.hpp"
#include "heap/profile_output.hpp"
#include "heap/profile_pprof.hpp"
#include "heap/profile_svg.hpp"
#include "heap/profile_symbols.hpp"
#include "weft/detail/heap_count.hpp"

namespace weft::detail {

using namespace heap;

int heap_profile_visit(void (*visit)(void* argument, const HeapSite& site), void* argument,
                       HeapProfile* profile) noexcept try {
  const HeapProfilePause pause;
  heap_counts();  // looks for libraries that have come
  ProfileRecord record;
  if (!copy_profile(record)) return ENOMEM;
  if (profile) *profile = record.totals;
  if (!visit) return 0;
  FrameNames names(record);
  std::vector<HeapFrame> frames;
  for (const Site& site : record.sites) {
    frames.clear();
    for (uint32_t i = 0; i < site.frame_count; ++i)
      frames.push_back(names.frame(record.frames[site.first_frame + i]));
    HeapSite out;
    out.frames = frames.data();
    out.frame_count = frames.size();
    out.samples = site.samples;
    out.made_blocks = site.made_blocks;
    out.made_bytes = site.made_bytes;
    out.live_blocks = site.made_blocks - site.freed_blocks;
    out.live_bytes = site.made_bytes - site.freed_bytes;
    out.marked = site.marked;
    visit(argument, out);
  }
  return 0;
} catch (const std::bad_alloc&) {
  return ENOMEM;
}

int heap_profile_write_pprof(const char* path) noexcept try {
  const HeapProfilePause pause;
  ProfileRecord record;
  return copy_profile(record) ? write_file(path, to_pprof(record)) : ENOMEM;
} catch (const std::bad_alloc&) {
  return ENOMEM;
}

int heap_profile_write_svg(const char* path, HeapMeasure measure, const char* title) noexcept try {
  const HeapProfilePause pause;
  ProfileRecord record;
  return copy_profile(record) ? write_file(path, to_svg(record, measure, title)) : ENOMEM;
} catch (const std::bad_alloc&) {
  return ENOMEM;
}

}  // namespace weft::detail
