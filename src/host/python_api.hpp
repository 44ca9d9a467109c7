// The functions of CPython's C API that the engine calls, found by name in the running process.
#pragma once

namespace weft::engine::host {

/// The interpreter's own types, seen from outside: addresses.
using ThreadStatePointer = void*;
using InterpreterPointer = void*;

/// Null: this CPython does not have it. `required` ones are never null in a Python that was found.
struct PythonApi {
  // Required.
  int (*is_initialized)();
  ThreadStatePointer (*current_state)();  ///< the attached thread state, or null; checks nothing
  ThreadStatePointer (*own_state)();      ///< the one PyGILState_Ensure would use on this thread, or null
  int (*gilstate_ensure)();
  void (*gilstate_release)(int state);
  ThreadStatePointer (*save_thread)();
  void (*restore_thread)(ThreadStatePointer state);
  unsigned long (*thread_ident)();
  InterpreterPointer (*interpreter_head)();
  InterpreterPointer (*interpreter_main)();
  ThreadStatePointer (*thread_head)(InterpreterPointer interpreter);
  int (*at_exit)(void (*callback)());

  int (*is_finalizing)();
  const char* (*version_text)();
  const unsigned long* version;  ///< as in PY_VERSION_HEX
  const char* runtime;           ///< _PyRuntime
  const void* code_type;         ///< PyCode_Type
  const void* text_type;         ///< PyUnicode_Type

  /// Looks all names up on a handle from dlopen(). False if a required one is missing.
  bool resolve(void* handle) noexcept;
};

}  // namespace weft::engine::host
