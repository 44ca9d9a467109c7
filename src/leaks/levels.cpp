// The figures of a leak test, taken without allocating anything.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "weft/detail/heap.hpp"
#include "weft/detail/heap_count.hpp"
#include "weft/detail/leaks.hpp"

namespace weft::detail {

namespace {

// Reads what fits into `text`, which it ends with a NUL; "" if it cannot be read.
template <size_t kSize>
void read_file(const char* path, char (&text)[kSize]) noexcept {
  text[0] = 0;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  size_t used = 0;
  for (ssize_t size; used + 1 < kSize && (size = read(fd, text + used, kSize - 1 - used)) > 0;)
    used += static_cast<size_t>(size);
  text[used] = 0;
  close(fd);
}

// Bytes; 0 if there is no such line.
double kilobytes_of(const char* text, const char* name) noexcept {
  const char* const line = strstr(text, name);
  return line ? 1024.0 * static_cast<double>(strtoull(line + strlen(name), nullptr, 10)) : 0;
}

}  // namespace

int begin_leak_watch() noexcept {
  return heap_is_split() ? EXDEV : heap_count_begin();
}

void end_leak_watch() noexcept {
  heap_count_end();
}

void take_leak_levels(LeakLevels& levels, bool counting, const InterpreterLevels& interpreter) noexcept {
  const auto set = [&levels](LeakMetric metric, double level) {
    levels[static_cast<size_t>(metric)] = level;
  };
  levels = {};
  HeapFigures figures;
  const bool known = heap_figures(figures) == 0;
  const auto mapped = static_cast<double>(known ? figures.mapped : 0);
  set(LeakMetric::kMmap, mapped);
  if (counting) {
    const HeapCounts counts = heap_counts();
    set(LeakMetric::kHeap, static_cast<double>(counts.bytes) - mapped);
    set(LeakMetric::kArenas, static_cast<double>(known ? figures.used : 0));
    set(LeakMetric::kBlocks, static_cast<double>(counts.blocks));
    set(LeakMetric::kMapped, static_cast<double>(counts.mappings) - interpreter.held);
  } else if (known) {
    set(LeakMetric::kHeap, static_cast<double>(figures.used));
  }
  set(LeakMetric::kPython, interpreter.blocks);

  char text[4096];
  read_file("/proc/self/statm", text);
  unsigned long long pages = 0, resident = 0;
  sscanf(text, "%llu %llu", &pages, &resident);
  const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
  set(LeakMetric::kVms, page * static_cast<double>(pages));
  set(LeakMetric::kRss, page * static_cast<double>(resident));
  read_file("/proc/self/smaps_rollup", text);
  set(LeakMetric::kUss, kilobytes_of(text, "Private_Clean:") + kilobytes_of(text, "Private_Dirty:") +
                            kilobytes_of(text, "Private_Hugetlb:"));
}

}  // namespace weft::detail
