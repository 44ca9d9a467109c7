#include "host/python_api.hpp"

#include <dlfcn.h>

namespace weft::engine::host {

namespace {

// The first of `names` that exists: functions were renamed as they became public.
template <typename Pointer, typename... Names>
bool look_up(void* handle, Pointer& out, Names... names) noexcept {
  void* symbol = nullptr;
  static_cast<void>(((symbol = dlsym(handle, names)) || ...));
  out = reinterpret_cast<Pointer>(symbol);
  return symbol != nullptr;
}

}  // namespace

bool PythonApi::resolve(void* handle) noexcept {
  look_up(handle, is_finalizing, "Py_IsFinalizing", "_Py_IsFinalizing");
  look_up(handle, version_text, "Py_GetVersion");
  look_up(handle, version, "Py_Version");
  look_up(handle, runtime, "_PyRuntime");
  look_up(handle, code_type, "PyCode_Type");
  look_up(handle, text_type, "PyUnicode_Type");
  return look_up(handle, is_initialized, "Py_IsInitialized") &&
         look_up(handle, current_state, "PyThreadState_GetUnchecked", "_PyThreadState_UncheckedGet") &&
         look_up(handle, own_state, "PyGILState_GetThisThreadState") &&
         look_up(handle, gilstate_ensure, "PyGILState_Ensure") &&
         look_up(handle, gilstate_release, "PyGILState_Release") &&
         look_up(handle, save_thread, "PyEval_SaveThread") &&
         look_up(handle, restore_thread, "PyEval_RestoreThread") &&
         look_up(handle, thread_ident, "PyThread_get_thread_ident") &&
         look_up(handle, interpreter_head, "PyInterpreterState_Head") &&
         look_up(handle, interpreter_main, "PyInterpreterState_Main") &&
         look_up(handle, thread_head, "PyInterpreterState_ThreadHead") &&
         look_up(handle, at_exit, "Py_AtExit");
}

}  // namespace weft::engine::host
