// What the kernel tells of a thread that blocks.
#pragma once

#include <cstdint>

namespace weft::engine::dump {

struct SystemCall {
  bool known = false;    ///< the thread blocked, and the members below say in what
  bool running = false;  ///< it ran; neither: the kernel does not tell
  long number = -1;      ///< -1: it blocks outside of a system call, for a page of memory
  uint64_t arguments[6] = {};
  uintptr_t stack_pointer = 0;
  uintptr_t address = 0;  ///< the code that made the call

  /// Of a thread of this process. Allocates nothing.
  static SystemCall of_thread(int thread) noexcept;

  /// Whether the kernel, after a signal handler that was installed with SA_RESTART, goes on with this call as
  /// if nothing had been. False where that depends.
  bool goes_on_after_handler() const noexcept;
};

}  // namespace weft::engine::dump
