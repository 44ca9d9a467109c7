// Where a leak comes from: the stacks whose blocks grow from run to run, with every allocation sampled.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "leaks/hand_over.hpp"
#include "leaks/trial.hpp"
#include "weft/detail/heap_profile.hpp"

namespace weft::detail {

namespace {

constexpr size_t kMostSites = 5;
constexpr size_t kMostFrames = 12;
constexpr double kBlocksPerRun = 8;
constexpr double kMostCalls = 20'000;

struct Site {
  double blocks = 0, bytes = 0;  // in all runs
  std::string stack;
};

struct Search {
  std::vector<Site> sites;
  uint32_t marks = 0;
};

double marked(const HeapSite& site, uint32_t mark) noexcept {
  return site.marked[mark % HeapSite::kMarks];
}

// A stack ends where the check begins: all calls come from there.
bool is_check(const HeapFrame& frame) noexcept {
  return frame.python ? strstr(frame.file, "weft/leaks/_") != nullptr
                      : strstr(frame.function, "weft::heap::LeakCheck::") != nullptr;
}

std::string stack_of(const HeapSite& site) {
  std::string text;
  size_t shown = 0, python_end = 0;
  for (size_t i = 0; i < site.frame_count && shown < kMostFrames; ++i) {
    const HeapFrame& frame = site.frames[i];
    if (shown > 0 && is_check(frame)) break;
    // Of a stripped library only the name tells something, and that once.
    if (!frame.python && !*frame.function && i > 0 && strcmp(site.frames[i - 1].file, frame.file) == 0 &&
        !*site.frames[i - 1].function)
      continue;
    ++shown;
    if (frame.python)
      text += std::string("    File \"") + frame.file + "\", line " + std::to_string(frame.line) + " in " +
              frame.function;
    else
      text += std::string("    ") + (*frame.function ? frame.function : "?") + " (" +
              (strrchr(frame.file, '/') ? strrchr(frame.file, '/') + 1 : frame.file) + ")";
    text += '\n';
    if (frame.python) python_end = text.size();
  }
  // Behind the last frame of Python there is only the interpreter that calls it.
  if (python_end > 0) text.resize(python_end);
  return text;
}

// Grew in most runs, as the leak does and a cache that fills does not.
void consider(void* argument, const HeapSite& site) {
  auto& search = *static_cast<Search*>(argument);
  if (search.marks < 2 || site.live_blocks <= 0) return;
  uint32_t rises = 0;
  for (uint32_t mark = 1; mark < search.marks; ++mark) rises += marked(site, mark) > marked(site, mark - 1);
  const double grown = marked(site, search.marks - 1) - marked(site, 0);
  if (grown <= 0 || 3 * rises < 2 * (search.marks - 1)) return;
  search.sites.push_back({grown, grown * site.live_bytes / site.live_blocks, stack_of(site)});
}

std::string text_of(uint64_t calls) {
  HeapProfile profile;
  Search search;
  if (heap_profile_visit(nullptr, nullptr, &profile) != 0) return {};
  search.marks = std::min(profile.marks, HeapSite::kMarks);
  if (heap_profile_visit(consider, &search) != 0 || search.sites.empty()) return {};
  std::sort(search.sites.begin(), search.sites.end(),
            [](const Site& a, const Site& b) { return a.bytes > b.bytes; });
  std::string text = "allocated at, the innermost call first:\n";
  const auto all = static_cast<double>(calls * (search.marks - 1));
  for (size_t i = 0; i < std::min(search.sites.size(), kMostSites); ++i) {
    char head[128];
    snprintf(head, sizeof head, "  %.4g bytes in %.3g blocks a call\n", search.sites[i].bytes / all,
             search.sites[i].blocks / all);
    text += head + search.sites[i].stack;
  }
  if (search.sites.size() > kMostSites)
    text += "  and " + std::to_string(search.sites.size() - kMostSites) + " more\n";
  return text;
}

}  // namespace

int begin_leak_search() noexcept {
  return heap_profile_begin(1);
}

void mark_leak_search() noexcept {
  heap_profile_mark();
}

void end_leak_search() noexcept {
  heap_profile_end();
}

uint64_t leak_search_calls(const LeakTrial& trial) noexcept {
  const auto rate = [&](LeakMetric metric) { return std::max(trial.growth(metric).estimate, 0.0); };
  const double blocks =
      std::max(rate(LeakMetric::kBlocks) + rate(LeakMetric::kPython), kBlocksPerRun / kMostCalls);
  const double bytes = std::max({rate(LeakMetric::kHeap) + rate(LeakMetric::kMmap), rate(LeakMetric::kMapped),
                                 rate(LeakMetric::kRss), rate(LeakMetric::kUss), 1.0});
  constexpr double kShare = 1.0 / (4 * kLeakSearchRuns);
  const double calls = std::min({kBlocksPerRun / blocks, kShare * trial.memory_limit() / bytes,
                                 kShare * trial.seconds_limit() / std::max(trial.seconds_per_call(), 1e-9)});
  return static_cast<uint64_t>(std::max(calls, 1.0) + 0.5);
}

size_t leak_search_text(uint64_t calls, char* text, size_t room) noexcept {
  return leaks::write_text(text, room, [&] { return text_of(calls); });
}

}  // namespace weft::detail
