#include "interpose/calls.hpp"

#include <dlfcn.h>

#include "fiber/context.hpp"
#include "interpose/elf/libc_symbol.hpp"

namespace weft::engine::interpose {

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
  static constexpr const char* kNames[] = {"sockets", "polling",     "sleeping", "locks",
                                           "threads", "names",       "files",    "children",
                                           "signals", "descriptors", "loading"};
  return kNames[static_cast<int>(family)];
}

std::span<const Call> all_calls() noexcept {
#define WEFT_ROW(family, symbol, call) \
  {#symbol, erase(&routed::call), Family::family, reinterpret_cast<const void* const*>(&real::call)},
#define WEFT_SOCKETS_ROW(call) WEFT_ROW(kSockets, call, call)
#define WEFT_SOCKETS_ALIAS(symbol, call) WEFT_ROW(kSockets, symbol, call)
#define WEFT_POLLING_ROW(call) WEFT_ROW(kPolling, call, call)
#define WEFT_POLLING_ALIAS(symbol, call) WEFT_ROW(kPolling, symbol, call)
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
#define WEFT_FILES_ROW(call) WEFT_ROW(kFiles, call, call)
#define WEFT_FILES_ALIAS(symbol, call) WEFT_ROW(kFiles, symbol, call)
#define WEFT_DESCRIPTORS_ROW(call) WEFT_ROW(kDescriptors, call, call)
#define WEFT_DESCRIPTORS_ALIAS(symbol, call) WEFT_ROW(kDescriptors, symbol, call)
#define WEFT_NAMES_ROW(call) WEFT_ROW(kNames, call, call)
#define WEFT_NAMES_ALIAS(symbol, call) WEFT_ROW(kNames, symbol, call)
#define WEFT_CHILDREN_ROW(call) WEFT_ROW(kChildren, call, call)
#define WEFT_CHILDREN_ALIAS(symbol, call) WEFT_ROW(kChildren, symbol, call)
  static const Call kCalls[] = {
      WEFT_SOCKETS_CALLS(WEFT_SOCKETS_ROW) WEFT_SOCKETS_ALIASES(WEFT_SOCKETS_ALIAS)      //
      WEFT_POLLING_CALLS(WEFT_POLLING_ROW) WEFT_POLLING_ALIASES(WEFT_POLLING_ALIAS)      //
      WEFT_SLEEPING_CALLS(WEFT_SLEEPING_ROW) WEFT_SLEEPING_ALIASES(WEFT_SLEEPING_ALIAS)  //
      WEFT_LOCKS_CALLS(WEFT_LOCKS_ROW) WEFT_LOCKS_ALIASES(WEFT_LOCKS_ALIAS)              //
      WEFT_THREADS_CALLS(WEFT_THREADS_ROW) WEFT_THREADS_ALIASES(WEFT_THREADS_ALIAS)      //
      WEFT_THREADS_ROW(pthread_exit)                                                     //
      WEFT_THREADS_ALIAS(thrd_exit, pthread_exit)  // an int is the lower half of the word that joiners get
      WEFT_SIGNALS_CALLS(WEFT_SIGNALS_ROW) WEFT_SIGNALS_ALIASES(WEFT_SIGNALS_ALIAS)  //
      {"vfork", erase(&routed::weft_vfork), Family::kSignals,
       reinterpret_cast<const void* const*>(&real::vfork)},
      {"__vfork", erase(&routed::weft_vfork), Family::kSignals,
       reinterpret_cast<const void* const*>(&real::vfork)},
      WEFT_LOADING_CALLS(WEFT_LOADING_ROW) WEFT_LOADING_ALIASES(WEFT_LOADING_ALIAS)                  //
      WEFT_FILES_CALLS(WEFT_FILES_ROW) WEFT_FILES_ALIASES(WEFT_FILES_ALIAS)                          //
      WEFT_DESCRIPTORS_CALLS(WEFT_DESCRIPTORS_ROW) WEFT_DESCRIPTORS_ALIASES(WEFT_DESCRIPTORS_ALIAS)  //
      WEFT_NAMES_CALLS(WEFT_NAMES_ROW) WEFT_NAMES_ALIASES(WEFT_NAMES_ALIAS)                          //
      WEFT_CHILDREN_CALLS(WEFT_CHILDREN_ROW) WEFT_CHILDREN_ALIASES(WEFT_CHILDREN_ALIAS)              //
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

}  // namespace weft::engine::interpose
