#include "fiber/native_thread.hpp"

#include <dlfcn.h>

#include <csignal>

#include "fiber/context.hpp"
#include "fiber/sys.hpp"

namespace weft::engine {

namespace {

template <typename Function>
Function* libc_function(const char* name, Function* fallback) noexcept {
#if defined(WEFT_TSAN) || defined(WEFT_ASAN)
  // The sanitizers know threads by their interceptors: without it ASan follows no switch of stacks there, and
  // trips over its own marks at the first throw.
  static_cast<void>(name);
  return fallback;
#else
  // On libc's own handle: in a program that is not position-independent dlsym(RTLD_DEFAULT) may find its PLT
  // stub.
  void* libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  void* symbol = libc ? dlsym(libc, name) : nullptr;
  return symbol ? reinterpret_cast<Function*>(symbol) : fallback;
#endif
}

}  // namespace

int start_native_thread(pthread_t& thread, const char* name, void* (*entry)(void*), void* argument) noexcept {
  static const auto create = libc_function("pthread_create", &pthread_create);
  // The mask is the new thread's from its first instruction on.
  const uint64_t all = kAllSignals;
  uint64_t former = 0;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &all, &former, sizeof all);
  const int error = create(&thread, nullptr, entry, argument);
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &former, nullptr, sizeof former);
  if (error == 0) pthread_setname_np(thread, name);
  return error;
}

void join_native_thread(pthread_t thread) noexcept {
  static const auto join = libc_function("pthread_join", &pthread_join);
  join(thread, nullptr);
}

}  // namespace weft::engine
