// Python: the CPython that lives in this process.
#pragma once

#include <atomic>
#include <cstdint>

#include "host/layout.hpp"
#include "host/python_api.hpp"

namespace weft::engine::host {

/// What the engine must know of an interpreter, asked through functions found by name, so that one build
/// serves every CPython from 3.11 on, in a shared library or in the executable. There is at most one; it is
/// never unloaded.
///
/// Unless said otherwise a function may be called on any thread, with or without the GIL, before the
/// interpreter is initialised, and after it is finalised; none suspends.
class Python {
 public:
  /// The CPython in the process, or null. Looks through the loaded objects until there is one: call it at the
  /// start and after objects were loaded. Not async-signal-safe.
  static Python* find() noexcept;
  /// What find() found last: one load. Async-signal-safe.
  static Python* present() noexcept { return instance_.load(std::memory_order_acquire); }

  // --- What it is.

  /// As in PY_VERSION_HEX: 0x030d00f0 is 3.13.0.
  unsigned long version() const noexcept { return version_; }
  bool at_least(int major, int minor) const noexcept {
    return (version_ >> 16) >= static_cast<unsigned long>(major << 8 | minor);
  }
  /// "3.13.0 (main, ...) [GCC ...]"
  const char* version_text() const noexcept { return version_text_; }
  /// Whether its threads may be fibers that share an OS thread's thread_locals: 3.11 to 3.13. From 3.14 on
  /// the state that PyGILState_Ensure uses is a thread_local variable too, which is never empty; all fibers
  /// would share one.
  bool supported() const noexcept { return at_least(3, 11) && !at_least(3, 14); }
  /// A build without the GIL. Known from 3.13 on, the first that could be one.
  bool free_threaded() const noexcept { return free_threaded_; }

  /// The executable or libpython that holds the interpreter.
  const char* object_path() const noexcept { return object_path_; }
  /// True if `address` lies in that object: whether a call comes from the interpreter itself.
  bool is_interpreter_object(const void* address) const noexcept {
    const auto value = reinterpret_cast<uintptr_t>(address);
    return value >= object_begin_ && value < object_end_;
  }
  /// True if `name` is what the dynamic linker or the file system calls that object; the executable is "" to
  /// the former.
  bool is_interpreter_object(const char* name) const noexcept;

  bool initialized() const noexcept { return api_.is_initialized() != 0; }
  /// True from when threads can no longer take the GIL, until the interpreter is initialised again.
  bool finalizing() const noexcept { return api_.is_finalizing && api_.is_finalizing() != 0; }
  /// Whether a thread may take the GIL.
  bool usable() const noexcept { return initialized() && !finalizing(); }

  /// Whether a thread that the interpreter has created may call its start routine now. CPython before 3.11.6
  /// (and 3.12.0) frees the states of all threads as it finalises, and a thread that has not begun by then
  /// would write to its own (CPython issue 108987). OS threads begin at once and are ended when they ask for
  /// the GIL; a fiber may not have had its turn. It is to be ended without the call.
  bool may_begin_thread(void* (*start)(void*)) const noexcept;
  /// Whether a thread that is about to be created is that of faulthandler.dump_traceback_later(). It has no
  /// thread state, never asks for the GIL, and is to run when nothing else can.
  bool is_watchdog(void* (*start)(void*), void* argument) const noexcept;

  const PythonApi& api() const noexcept { return api_; }
  /// Null where the layout of this version is not known or does not fit.
  const Layout* layout() const noexcept { return has_layout_ ? &layout_ : nullptr; }

  // --- The GIL.

  /// True if the fiber (or native thread) that asks holds it. A few nanoseconds.
  bool running_fiber_holds_gil() const noexcept;

  // A fiber may park while it holds the GIL; others go on, as long as they do not need it. From 3.12 on the
  // attached thread state stands in a thread_local variable of the interpreter, so a fiber that parks must
  // take it along: what runs next on the OS thread would take the state for its own. 3.11 has one variable
  // for the process, which is right as it is.

  /// False: a fiber that holds the GIL must not park. Meaningful while the caller holds it.
  bool can_park_with_gil() noexcept;
  /// The calling OS thread's variable, for a carrier to swap at each switch; null if there is none (3.11) or
  /// it is not known yet: it can be found only while the caller holds the GIL.
  void** thread_state_slot() noexcept;
  /// Takes the attached thread state off the OS thread, where that is needed, and returns it. The GIL stays
  /// held. REQUIRES: can_park_with_gil(), or the caller does not hold the GIL.
  void* suspend_thread_state() noexcept;
  /// Puts back, on whichever OS thread the fiber runs by now, what suspend_thread_state() returned; ignores
  /// null.
  void resume_thread_state(void* state) noexcept;

 private:
  Python() noexcept = default;
  friend class PythonFinder;

  bool own_state_is(ThreadStatePointer current) const noexcept;
  void** find_slot() noexcept;
  void** block_of_this_thread() const noexcept;

  static std::atomic<Python*> instance_;

  PythonApi api_{};
  Layout layout_{};
  bool has_layout_ = false;
  bool free_threaded_ = false;
  unsigned long version_ = 0;
  const char* version_text_ = "";
  char object_path_[512] = {};
  char linker_name_[512] = {};
  uintptr_t object_begin_ = 0, object_end_ = 0;
  void* link_map_ = nullptr;
  size_t thread_block_size_ = 0;  // of the object's PT_TLS segment
  // Where in an OS thread's block of that segment the variable is; kUnknown until found.
  static constexpr size_t kUnknown = ~size_t{0};
  std::atomic<size_t> slot_offset_{kUnknown};
};

}  // namespace weft::engine::host
