// The stack of an allocation.
#pragma once

#include <cstddef>

#include "heap/profile_table.hpp"
#include "host/python_stack.hpp"
#include "runtime/dump_stack.hpp"

namespace weft::heap {

/// Before the first capture, outside malloc(): what would allocate at first use.
void prepare_capture() noexcept;

/// The calling thread's stack, native and Python's. Larger than a handler's stack should hold.
class Capture {
 public:
  static constexpr size_t kMost = 128;  ///< of each kind, the innermost

  /// Reads the stack from the frame on that `caller` is an address in. Allocates nothing.
  [[gnu::noinline]] explicit Capture(const void* caller) noexcept;

  /// Puts both kinds together, the innermost first, into `frames`, which has room for 2 * kMost. Python's
  /// functions are looked up in `table`. Returns their number. REQUIRES: nothing has run since on the thread.
  size_t merge(ProfileTable& table, PackedFrame* frames) const noexcept;

 private:
  PackedFrame pack(ProfileTable& table, const engine::host::PythonFrame& frame) const noexcept;

  engine::dump::Frame native_[kMost];
  size_t native_count_ = 0;
  engine::host::PythonFrame python_[kMost];
  size_t python_count_ = 0;
};

}  // namespace weft::heap
