// What was sampled: sites, the functions their stacks name, and the sampled blocks that are alive.
#pragma once

#include <cstdint>
#include <string_view>

#include "heap/profile_memory.hpp"
#include "weft/detail/heap_profile.hpp"

namespace weft::heap {

using detail::HeapSite;

/// A stack's line in one word: a native address, or a Python function with a line.
class PackedFrame {
 public:
  constexpr PackedFrame() noexcept = default;
  static PackedFrame native(uintptr_t address) noexcept { return PackedFrame(address & ~kPython); }
  static PackedFrame python(uint32_t function, int line) noexcept {
    const uint64_t kept = line < 0 ? 0 : static_cast<uint64_t>(line) & kLine;
    return PackedFrame(kPython | uint64_t{function} << 24 | kept);
  }

  bool is_python() const noexcept { return word_ & kPython; }
  uintptr_t address() const noexcept { return word_; }
  uint32_t function() const noexcept { return static_cast<uint32_t>((word_ & ~kPython) >> 24); }
  int line() const noexcept { return static_cast<int>(word_ & kLine); }
  uint64_t word() const noexcept { return word_; }

 private:
  static constexpr uint64_t kPython = uint64_t{1} << 63, kLine = (1 << 24) - 1;
  explicit PackedFrame(uint64_t word) noexcept : word_(word) {}
  uint64_t word_ = 0;
};

struct Site {
  uint64_t hash;
  uint64_t samples;
  double made_blocks, made_bytes, freed_blocks, freed_bytes;
  double marked[HeapSite::kMarks];
  uint32_t first_frame, frame_count;
};

struct PythonFunction {
  uint64_t hash;
  uint32_t text, file_size, name_size;  // both stand one after the other
};

/// A sampled block that is alive. A sample stands for `weight` blocks.
struct LiveBlock {
  uintptr_t block = 0;
  int64_t bytes = 0;
  double weight = 0;
  uint32_t site = 0;
};

/// What outlives the sampling, and can be copied.
struct ProfileRecord {
  bool assign(const ProfileRecord& other) noexcept;
  void clear() noexcept;
  std::string_view file_of(const PythonFunction& function) const noexcept;
  std::string_view name_of(const PythonFunction& function) const noexcept;

  detail::HeapProfile totals;
  Pages<Site> sites;
  Pages<PackedFrame> frames;
  Pages<PythonFunction> functions;
  Pages<char> text;
};

/// Not thread-safe. All memory is the kernel's; where there is none, samples are lost, and counted.
class ProfileTable {
 public:
  /// The number of a function; HashIndex::kNone: no memory.
  uint32_t function(std::string_view file, std::string_view name) noexcept;
  /// A sample of a block that stands for `weight` blocks of its size.
  void add(uintptr_t block, int64_t bytes, double weight, const PackedFrame* frames, size_t count) noexcept;
  /// The block is freed: takes it out. False: it was not sampled.
  bool take(uintptr_t block, LiveBlock& taken) noexcept;
  /// It is alive after all.
  void put_back(const LiveBlock& block) noexcept;
  void mark() noexcept;
  void clear() noexcept;

  const ProfileRecord& record() const noexcept { return record_; }
  ProfileRecord& record() noexcept { return record_; }

 private:
  uint32_t site(const PackedFrame* frames, size_t count) noexcept;
  bool insert(const LiveBlock& block) noexcept;
  static size_t home(uintptr_t block, size_t mask) noexcept;

  ProfileRecord record_;
  HashIndex sites_, functions_;
  Pages<LiveBlock> live_;  // open addressing: a power of two of them
  size_t live_count_ = 0;
};

}  // namespace weft::heap
