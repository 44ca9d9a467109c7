// Which signals every fiber of a carrier blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft {

/// The signal masks of a carrier's fibers, counted: the kernel knows the mask of the OS thread only, and may
/// hold back no signal that one of the fibers would take. A program has few different masks, most often one,
/// so each operation costs a comparison or two whatever the number of fibers. For the carrier's thread only.
class SignalCensus {
 public:
  SignalCensus() { entries_.reserve(16); }

  void add(uint64_t mask) {
    Entry& entry = entry_of(mask);
    if (entry.count++ == 0) count_anew();
  }
  void remove(uint64_t mask) {
    Entry& entry = entry_of(mask);
    if (--entry.count > 0) return;
    entry = entries_.back();
    entries_.pop_back();
    last_ = 0;
    count_anew();
  }
  void clear() noexcept {
    entries_.clear();
    last_ = 0;
    blocked_by_all_ = 0;
  }
  /// A bit for each signal that no fiber would take.
  uint64_t blocked_by_all() const noexcept { return blocked_by_all_; }

 private:
  struct Entry {
    uint64_t mask;
    size_t count;
  };

  Entry& entry_of(uint64_t mask) {
    if (last_ < entries_.size() && entries_[last_].mask == mask) return entries_[last_];
    for (last_ = 0; last_ < entries_.size(); ++last_)
      if (entries_[last_].mask == mask) return entries_[last_];
    return entries_.emplace_back(Entry{mask, 0});
  }
  void count_anew() noexcept {
    blocked_by_all_ = ~uint64_t{0};
    for (const Entry& entry : entries_) blocked_by_all_ &= entry.mask;
  }

  std::vector<Entry> entries_;
  size_t last_ = 0;  // the entry used last
  uint64_t blocked_by_all_ = 0;
};

}  // namespace weft
