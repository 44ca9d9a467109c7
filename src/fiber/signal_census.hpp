// Which signals every fiber of a carrier blocks.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::engine {

/// The signal masks of a carrier's fibers, counted: the kernel knows the mask of the OS thread only, and may
/// hold back no signal that one of the fibers would take. A program has few different masks, most often one,
/// so each operation costs a comparison or two whatever the number of fibers. For the carrier's thread only.
class SignalCensus {
 public:
  void add(uint64_t mask) noexcept {
    Entry* entry = entry_of(mask);
    if (!entry && used_ < kMost) *(entry = &entries_[used_++]) = {mask, 0};
    if (entry && entry->count++ == 0) count_anew();
  }
  void remove(uint64_t mask) noexcept {
    Entry* entry = entry_of(mask);
    if (!entry || --entry->count > 0) return;
    *entry = entries_[--used_];
    last_ = 0;
    count_anew();
  }
  void clear() noexcept {
    used_ = last_ = 0;
    blocked_by_all_ = 0;
  }
  /// A bit for each signal that no fiber would take.
  uint64_t blocked_by_all() const noexcept { return blocked_by_all_; }

 private:
  // More masks than this at a time are not counted: their signals may wait until such a fiber runs.
  static constexpr size_t kMost = 64;

  struct Entry {
    uint64_t mask;
    size_t count;
  };

  Entry* entry_of(uint64_t mask) noexcept {
    if (last_ < used_ && entries_[last_].mask == mask) return &entries_[last_];
    for (last_ = 0; last_ < used_; ++last_)
      if (entries_[last_].mask == mask) return &entries_[last_];
    return nullptr;
  }
  void count_anew() noexcept {
    blocked_by_all_ = ~uint64_t{0};
    for (size_t i = 0; i < used_; ++i) blocked_by_all_ &= entries_[i].mask;
  }

  Entry entries_[kMost];
  size_t used_ = 0, last_ = 0;  // last_: the entry used last
  uint64_t blocked_by_all_ = 0;
};

}  // namespace weft::engine
