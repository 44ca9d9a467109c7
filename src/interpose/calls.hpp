// The table of routed calls.
//
// Each family lists its calls in calls/<family>.hpp and implements them, as functions of namespace `routed`
// with exactly libc's signatures, in <family>*.cpp. X(call) is a call; Y(symbol, call) another symbol for one
// (a 64-bit alias, a fortified name with the same signature).
//
// The rules for every routed function:
//   - It is noexcept, returns what libc's does and sets errno alike, down to partial results and EINTR.
//   - Off a fiber, or where switching is forbidden (current_fiber() is null), it goes straight to
//   real::call(...).
//   - It calls libc's functions only as real::call(...), or by sys::call: its own object may be patched.
#pragma once

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <threads.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <ctime>
#include <span>

#include "interpose/calls/children.hpp"
#include "interpose/calls/descriptors.hpp"
#include "interpose/calls/files.hpp"
#include "interpose/calls/loading.hpp"
#include "interpose/calls/locks.hpp"
#include "interpose/calls/names.hpp"
#include "interpose/calls/polling.hpp"
#include "interpose/calls/signals.hpp"
#include "interpose/calls/sleeping.hpp"
#include "interpose/calls/sockets.hpp"
#include "interpose/calls/threads.hpp"

namespace weft::engine::interpose {

enum class Family : uint8_t {
  kSockets,
  kPolling,
  kSleeping,
  kLocks,
  kThreads,
  kNames,
  kFiles,
  kChildren,
  kSignals,
  kDescriptors,
  kLoading,
};
const char* to_string(Family family) noexcept;

#define WEFT_ALL_CALLS(X)   \
  WEFT_SOCKETS_CALLS(X)     \
  WEFT_POLLING_CALLS(X)     \
  WEFT_SLEEPING_CALLS(X)    \
  WEFT_LOCKS_CALLS(X)       \
  WEFT_THREADS_CALLS(X)     \
  WEFT_LOADING_CALLS(X)     \
  WEFT_SIGNALS_CALLS(X)     \
  WEFT_FILES_CALLS(X)       \
  WEFT_DESCRIPTORS_CALLS(X) \
  WEFT_NAMES_CALLS(X)       \
  WEFT_CHILDREN_CALLS(X)

namespace detail {
template <typename Function>
struct Noexcept;
template <typename Result, typename... Args>
struct Noexcept<Result(Args...)> {
  using type = Result(Args...) noexcept;
};
template <typename Result, typename... Args>
struct Noexcept<Result(Args...) noexcept> {
  using type = Result(Args...) noexcept;
};
template <typename Result, typename... Args>
struct Noexcept<Result(Args..., ...)> {
  using type = Result(Args..., ...) noexcept;
};
template <typename Result, typename... Args>
struct Noexcept<Result(Args..., ...) noexcept> {
  using type = Result(Args..., ...) noexcept;
};
}  // namespace detail

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

/// libc's own functions; null where this libc has none. Valid once resolve_calls() has run.
namespace real {
#define WEFT_DECLARE_REAL(call) inline constinit decltype(&::call) call = nullptr;
WEFT_ALL_CALLS(WEFT_DECLARE_REAL)
#undef WEFT_DECLARE_REAL
// The one call that is left by unwinding, so that neither it nor what takes its place is noexcept.
inline constinit decltype(&::pthread_exit) pthread_exit = nullptr;
inline constinit decltype(&::vfork) vfork = nullptr;
}  // namespace real

/// What takes their place.
namespace routed {
#define WEFT_DECLARE_ROUTED(call) detail::Noexcept<decltype(::call)>::type call;
WEFT_ALL_CALLS(WEFT_DECLARE_ROUTED)
#undef WEFT_DECLARE_ROUTED
[[noreturn]] void pthread_exit(void* result);
// In assembler: see vfork.S.
extern "C" [[gnu::visibility("hidden")]] pid_t weft_vfork() noexcept;
}  // namespace routed

#pragma GCC diagnostic pop

/// One row of the table.
struct Call {
  const char* symbol;
  void* routed;
  Family family;
  const void* const* real;  ///< where the pointer to libc's function is kept
};

/// All rows, sorted by family.
std::span<const Call> all_calls() noexcept;

/// Fills in namespace real. Idempotent; takes the loader's lock.
void resolve_calls() noexcept;

}  // namespace weft::engine::interpose
