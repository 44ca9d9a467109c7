// Python stacks, written from outside the interpreter.
#pragma once

#include <cstddef>

#include "host/text_sink.hpp"
#include "host/thread_states.hpp"

namespace weft::engine::host {

// All of these take no lock, run no Python, allocate nothing and survive any pointer they meet: they may be
// called on the monitor's thread without the GIL, and from a crash handler. Of a thread that runs meanwhile
// the stack may come out mixed or cut. They need about 2 KiB of stack.

/// How much of a stack is written.
struct PythonStackForm {
  static constexpr int kMostLast = 16;

  int first = 100;    ///< from the innermost frame on
  int last = 0;       ///< at the other end, at most kMostLast
  bool fold = false;  ///< frames of one place in a row are written once, with their number
};
inline constexpr PythonStackForm kBriefPythonStack{30, 12, true};

/// Writes the frames of a thread, the innermost first, in the form of Python's own fatal errors:
///   File "app.py", line 12 in handler
/// Returns how many it has; 0 if it runs no Python code or the layout of this Python is not known.
int write_python_stack(const Python& python, const ThreadStateInfo& thread, TextSink& sink,
                       const PythonStackForm& form = {}) noexcept;

/// Writes where a thread is, into `buffer`, terminated and cut to fit: "app.py:12 in handler", or "". Returns
/// its length.
size_t describe_python_frame(const Python& python, const ThreadStateInfo& thread, char* buffer,
                             size_t size) noexcept;

struct PythonFrame {
  uintptr_t filename = 0, name = 0;  ///< string objects; the frame keeps them alive
  int line = -1;                     ///< -1: none
  /// It was called by C code: the interpreter's loop that runs it is another than that of the frame before.
  bool outer_loop = false;
};

/// The frames of the calling thread, the innermost first; returns how many, at most `limit`. About 0.3 us a
/// frame, and no system call for each. Without the GIL, too: they stay as they are until the thread goes on.
size_t read_own_python_frames(const Python& python, PythonFrame* frames, size_t limit) noexcept;

}  // namespace weft::engine::host
