// Output: the last bytes that a stream of a command has written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "fiber/futex_lock.hpp"

namespace weft::process {

/// A ring of a limited size that remembers how much went by. One thread appends, any may read.
class Output {
 public:
  explicit Output(size_t limit) noexcept : limit_(limit < kLeast ? kLeast : limit) {}

  /// Bytes that do not fit push out the oldest. Without memory to grow, it stays as small as it is.
  void append(const char* data, size_t size) noexcept;
  void finish() noexcept;

  /// Copies from `position` on, or from the oldest byte there is; moves `position` behind it. `ended`:
  /// nothing will follow what was copied.
  size_t read(uint64_t& position, char* buffer, size_t size, bool& ended) const noexcept;
  uint64_t end(uint64_t& first) const noexcept;

 private:
  static constexpr size_t kLeast = 4096;
  void grow(size_t wanted) noexcept;
  void copy_out(uint64_t from, char* buffer, size_t size) const noexcept;

  mutable engine::FutexLock lock_;  // guards all below
  const size_t limit_;
  std::unique_ptr<char[]> ring_;
  size_t capacity_ = 0;
  uint64_t first_ = 0, end_ = 0;  // of what is kept, counted from the stream's beginning
  bool finished_ = false;
};

}  // namespace weft::process
