// Reading memory that may not be there, piece by piece.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "host/safe_memory.hpp"

namespace weft::engine::host {

/// Reads `size` bytes from `begin` on, one by one, through a window. Async-signal-safe.
class ByteReader {
 public:
  ByteReader(uintptr_t begin, size_t size, Memory memory = Memory::kForeign) noexcept
      : memory_(memory), next_(begin), left_(size) {}

  /// False at the end, and where the memory cannot be read.
  bool next(uint8_t& byte) noexcept {
    if (at_ == filled_ && !fill()) return false;
    byte = window_[at_++];
    return true;
  }

 private:
  bool fill() noexcept {
    filled_ = std::min(left_, sizeof window_);
    at_ = 0;
    if (filled_ == 0 || !copy_memory(memory_, next_, window_, filled_)) {
      left_ = filled_ = 0;
      return false;
    }
    next_ += filled_;
    left_ -= filled_;
    return true;
  }

  Memory memory_;
  uintptr_t next_;
  size_t left_;
  size_t at_ = 0, filled_ = 0;
  uint8_t window_[128];
};

}  // namespace weft::engine::host
