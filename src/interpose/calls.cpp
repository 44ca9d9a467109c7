#include "interpose/calls.hpp"

#include <dlfcn.h>

#include "fiber/context.hpp"
#include "interpose/elf/libc_symbol.hpp"

namespace weft::interpose {

namespace {

template <typename Function>
void* erase(Function* function) noexcept {
  return reinterpret_cast<void*>(function);
}

void* find_real(const char* name) noexcept {
#ifdef WEFT_TSAN
  // ThreadSanitizer's interceptors are the calls it must see.
  if (void* symbol = dlsym(RTLD_DEFAULT, name)) return symbol;
#endif
  return elf::libc_symbol(name);
}

}  // namespace

const char* to_string(Family family) noexcept {
  static constexpr const char* kNames[] = {"sockets", "polling", "sleeping", "locks",       "threads", "names",
                                           "files",   "children", "signals",  "descriptors", "loading"};
  return kNames[static_cast<int>(family)];
}

std::span<const Call> all_calls() noexcept {
#define WEFT_ROW(family, symbol, call) \
  {#symbol, erase(&routed::call), Family::family, reinterpret_cast<const void* const*>(&real::call)},
#define WEFT_SLEEPING_ROW(call) WEFT_ROW(kSleeping, call, call)
#define WEFT_SLEEPING_ALIAS(symbol, call) WEFT_ROW(kSleeping, symbol, call)
#define WEFT_LOCKS_ROW(call) WEFT_ROW(kLocks, call, call)
#define WEFT_LOCKS_ALIAS(symbol, call) WEFT_ROW(kLocks, symbol, call)
#define WEFT_THREADS_ROW(call) WEFT_ROW(kThreads, call, call)
#define WEFT_THREADS_ALIAS(symbol, call) WEFT_ROW(kThreads, symbol, call)
#define WEFT_SIGNALS_ROW(call) WEFT_ROW(kSignals, call, call)
#define WEFT_SIGNALS_ALIAS(symbol, call) WEFT_ROW(kSignals, symbol, call)
#define WEFT_LOADING_ROW(call) WEFT_ROW(kLoading, call, call)
#define WEFT_LOADING_ALIAS(symbol, call) WEFT_ROW(kLoading, symbol, call)
  static const Call kCalls[] = {
      WEFT_SLEEPING_CALLS(WEFT_SLEEPING_ROW) WEFT_SLEEPING_ALIASES(WEFT_SLEEPING_ALIAS)  //
      WEFT_LOCKS_CALLS(WEFT_LOCKS_ROW) WEFT_LOCKS_ALIASES(WEFT_LOCKS_ALIAS)              //
      WEFT_THREADS_CALLS(WEFT_THREADS_ROW) WEFT_THREADS_ALIASES(WEFT_THREADS_ALIAS)      //
      WEFT_THREADS_ROW(pthread_exit)                                                     //
      WEFT_SIGNALS_CALLS(WEFT_SIGNALS_ROW) WEFT_SIGNALS_ALIASES(WEFT_SIGNALS_ALIAS)      //
      {"vfork", erase(&routed::weft_vfork), Family::kSignals, reinterpret_cast<const void* const*>(&real::vfork)},
      {"__vfork", erase(&routed::weft_vfork), Family::kSignals, reinterpret_cast<const void* const*>(&real::vfork)},
      WEFT_LOADING_CALLS(WEFT_LOADING_ROW) WEFT_LOADING_ALIASES(WEFT_LOADING_ALIAS)      //
  };
  return kCalls;
}

void resolve_calls() noexcept {
#define WEFT_RESOLVE(call) \
  if (!real::call) real::call = reinterpret_cast<decltype(real::call)>(find_real(#call));
  WEFT_ALL_CALLS(WEFT_RESOLVE)
  WEFT_RESOLVE(pthread_exit)
  WEFT_RESOLVE(vfork)
#undef WEFT_RESOLVE
}

}  // namespace weft::interpose
