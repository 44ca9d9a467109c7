// What the tests of host/ need of the interpreter they run in: its C API, found by name.
#pragma once

#include <dlfcn.h>

#include <stdexcept>
#include <string>
#include <thread>

#include "fiber/carrier.hpp"
#include "host/thread_states.hpp"

namespace weft::engine::host::testing {

template <typename Function>
Function* c_api(const char* name) {
  static_assert(std::is_function_v<Function>);
  void* symbol = dlsym(RTLD_DEFAULT, name);
  if (!symbol) throw std::runtime_error(std::string("the interpreter has no ") + name);
  return reinterpret_cast<Function*>(symbol);
}

/// Holds the GIL for a scope.
class Gil {
 public:
  Gil() : state_(Python::present()->api().gilstate_ensure()) {}
  ~Gil() { Python::present()->api().gilstate_release(state_); }
  Gil(const Gil&) = delete;
  Gil& operator=(const Gil&) = delete;

 private:
  int state_;
};

/// Drops the GIL for a scope.
class NoGil {
 public:
  NoGil() : state_(Python::present()->api().save_thread()) {}
  ~NoGil() { Python::present()->api().restore_thread(state_); }
  NoGil(const NoGil&) = delete;
  NoGil& operator=(const NoGil&) = delete;

 private:
  void* state_;
};

/// Waits until the running fiber of `carrier` holds the GIL: after a preemption it takes a moment to get it
/// back.
inline void wait_until_held(Carrier& carrier) {
  ThreadStateInfo holder;
  while (read_gil_holder(*Python::present(), holder) != GilHolder::kSomebody ||
         !holder.belongs_to(*carrier.running_racy()))
    std::this_thread::yield();
}

/// Runs statements in __main__. REQUIRES: the GIL. Throws, after printing the traceback, when they raise.
inline void run(const std::string& statements) {
  static const auto run_string = c_api<int(const char*, void*)>("PyRun_SimpleStringFlags");
  if (run_string(statements.c_str(), nullptr) != 0)
    throw std::runtime_error("Python raised in: " + statements);
}

/// str() of an expression in __main__. REQUIRES: the GIL.
inline std::string evaluate(const std::string& expression) {
  static const auto add_module = c_api<void*(const char*)>("PyImport_AddModule");
  static const auto get_attribute = c_api<void*(void*, const char*)>("PyObject_GetAttrString");
  static const auto utf8 = c_api<const char*(void*)>("PyUnicode_AsUTF8");
  static const auto decrement = c_api<void(void*)>("Py_DecRef");
  run("_result = str(" + expression + ")");
  void* text = get_attribute(add_module("__main__"), "_result");
  const std::string result = utf8(text);
  decrement(text);
  return result;
}

}  // namespace weft::engine::host::testing
