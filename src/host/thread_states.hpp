// The interpreter's threads as seen from outside: without its GIL, its locks, or its consent.
#pragma once

#include <cstdint>

#include "fiber/fiber.hpp"
#include "host/python.hpp"

namespace weft::engine::host {

/// One PyThreadState, as it was when it was read.
struct ThreadStateInfo {
  uintptr_t state = 0;     ///< its address
  uint64_t thread_id = 0;  ///< what pthread_self says in that thread: for a fiber, the address of its block
  uint64_t native_id = 0;  ///< the kernel's id of the OS thread it was made on
  uintptr_t frame = 0;     ///< the innermost frame, or 0

  /// True if it is a state of `fiber`.
  bool belongs_to(const Fiber& fiber) const noexcept;
};

/// Walks the interpreters' lists of thread states. They may change meanwhile: states may be missed, never
/// invented. Async-signal-safe; any thread. A state costs about 0.3 us.
class ThreadStateCursor {
 public:
  /// Yields nothing if the layout of this Python is not known.
  explicit ThreadStateCursor(const Python& python) noexcept;
  /// False at the end.
  bool next(ThreadStateInfo& info) noexcept;

 private:
  const Python& python_;
  uintptr_t interpreter_ = 0;
  uintptr_t state_ = 0;
  // The lists are bent while we walk, and a walk may get into a circle. It ends where a state comes again
  // that was marked; ever later ones are, so one within the circle is at last (Brent, "An improved Monte
  // Carlo factorization algorithm", 1980).
  uintptr_t marked_ = 0;
  uint32_t lap_ = 8, until_mark_ = lap_;
  uint32_t steps_left_ = 4'000'000;  // should the list grow as fast as we walk
};

bool read_thread_state(const Python& python, uintptr_t state, ThreadStateInfo& info) noexcept;
/// The newest state of the thread with that pthread_self, which for a thread in a subinterpreter is the one
/// in use.
bool find_thread_state(const Python& python, uint64_t thread_id, ThreadStateInfo& info) noexcept;
bool find_thread_state(const Python& python, const Fiber& fiber, ThreadStateInfo& info) noexcept;

enum class GilHolder : uint8_t { kNobody, kSomebody, kUnknown };

/// Who holds the main interpreter's GIL at this moment. With kSomebody `info` is the holder's.
GilHolder read_gil_holder(const Python& python, ThreadStateInfo& info) noexcept;

}  // namespace weft::engine::host
