// Profile: which code allocates, by samples with their stacks.
#pragma once

#include <cerrno>
#include <exception>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "weft/detail/heap_profile.hpp"
#include "weft/error.hpp"
#include "weft/heap.hpp"

namespace weft::heap {

/// What a flame graph's boxes are as wide as: bytes or blocks that have not been freed, or that were ever
/// allocated.
enum class Measure : uint8_t { kLiveBytes, kLiveBlocks, kMadeBytes, kMadeBlocks };

struct ProfileOptions {
  /// Bytes between two samples, on average. 1: every allocation is sampled, and all figures are exact.
  size_t interval = weft::detail::kHeapProfileInterval;
  uint64_t seed = 0;  ///< not 0: the same program takes the same samples
};

/// A line of a stack.
struct Frame {
  std::string function;  ///< as one writes it; empty: not known
  std::string file;      ///< of Python: of the code; else the library or program
  int line = 0;          ///< of Python only
  bool python = false;
};

/// One stack that allocated, the innermost call first, and estimates of all that it did.
struct Site {
  std::vector<Frame> frames;
  double live_blocks = 0;  ///< not freed
  double live_bytes = 0;   ///< of them
  double made_blocks = 0;  ///< ever
  double made_bytes = 0;   ///< of them
};

/// Samples allocations of all threads until it is stopped, wherever in the process they are made. What is
/// freed is taken off. One at a time in a process. Any thread or fiber; nothing here suspends, but writing a
/// file blocks.
///
/// With the default interval a program that allocates all the time becomes slower by a few percent; with 1
/// some times.
class Profile {
 public:
  /// std::system_error: another one lives (EALREADY). NotSupported: the process allocates by another library
  /// than glibc.
  explicit Profile(const ProfileOptions& options = {}) {
    const int error = weft::detail::heap_profile_begin(options.interval, options.seed);
    if (error == ENOTSUP)
      throw NotSupported(
          "weft::heap::Profile: only glibc's allocations can be sampled, and by one copy of Weft: run the "
          "program without "
          "a preloaded allocator or a sanitizer");
    if (error == EALREADY) weft::detail::throw_errno(error, "weft::heap::Profile: there is one already");
    if (error) weft::detail::throw_errno(error, "weft::heap::Profile: cannot begin");
  }
  ~Profile() { stop(); }
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  /// What was found stays until there is another. Idempotent.
  void stop() noexcept {
    if (std::exchange(running_, false)) weft::detail::heap_profile_end();
  }

  /// As of now, in the order in which they were first seen.
  std::vector<Site> sites() const {
    struct Taken {
      std::vector<Site> sites;
      std::exception_ptr error;
    } taken;
    const int error = weft::detail::heap_profile_visit(
        [](void* argument, const weft::detail::HeapSite& site) {
          auto& all = *static_cast<Taken*>(argument);
          try {
            Site& one = all.sites.emplace_back();
            for (size_t i = 0; i < site.frame_count; ++i)
              one.frames.push_back(
                  {site.frames[i].function, site.frames[i].file, site.frames[i].line, site.frames[i].python});
            one.live_blocks = site.live_blocks;
            one.live_bytes = site.live_bytes;
            one.made_blocks = site.made_blocks;
            one.made_bytes = site.made_bytes;
          } catch (...) {
            all.error = std::current_exception();
          }
        },
        &taken);
    if (error == ENOMEM) throw std::bad_alloc();
    if (taken.error) std::rethrow_exception(taken.error);
    return std::move(taken.sites);
  }

  /// For pprof: blocks and bytes, alive and ever allocated. The file takes the place of `path` when it is
  /// complete. std::system_error.
  void write_pprof(const std::string& path) const {
    if (const int error = weft::detail::heap_profile_write_pprof(path.c_str()))
      weft::detail::throw_errno(error, "weft::heap::Profile: cannot write a profile");
  }
  /// A flame graph as an SVG that needs nothing else, in the same way.
  void write_svg(const std::string& path, Measure measure = Measure::kLiveBytes,
                 const std::string& title = "") const {
    if (const int error = weft::detail::heap_profile_write_svg(
            path.c_str(), static_cast<weft::detail::HeapMeasure>(measure), title.c_str()))
      weft::detail::throw_errno(error, "weft::heap::Profile: cannot write a flame graph");
  }

 private:
  bool running_ = true;
};

}  // namespace weft::heap
