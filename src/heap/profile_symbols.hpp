// Names for the lines of stacks.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "heap/profile_table.hpp"
#include "runtime/dump_symbols.hpp"

namespace weft::heap {

using detail::HeapFrame;

/// Gives names to the frames of a record, each once. Allocates, and throws std::bad_alloc. Not thread-safe.
class FrameNames {
 public:
  explicit FrameNames(const ProfileRecord& record) : record_(record) {}

  /// Lives as long as this.
  const HeapFrame& frame(PackedFrame packed);

 private:
  struct Named {
    HeapFrame frame;
    std::string function, file;
  };

  const ProfileRecord& record_;
  std::unique_ptr<engine::dump::Symbols> symbols_ = std::make_unique<engine::dump::Symbols>();
  std::unordered_map<uint64_t, Named> named_;
};

}  // namespace weft::heap
