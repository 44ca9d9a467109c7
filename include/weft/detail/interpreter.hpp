// What the Python package needs of the library beside what C++ programs do.
#pragma once

#include "weft/detail/core.hpp"

namespace weft::detail {

/// Starts the runtime for the interpreter in this process, on the calling thread, if it does not run; routes
/// what makes a fiber a thread (identity, signals, loading). Returns 0 or an errno; EPERM: the
/// caller is not the main thread. REQUIRES: the interpreter's lock is held.
WEFT_API int start_for_interpreter() noexcept;

/// While it lives, waits of the library that the calling fiber makes, if it is the main one, may end with
/// kInterrupted after a signal handler.
class WEFT_API Interruptible {
 public:
  Interruptible() noexcept;
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

 private:
  void* fiber_;
  uint8_t former_ = 0;
};

/// Parks the fiber, or blocks the thread, for ever: for what must not come back while the interpreter ends.
[[noreturn]] WEFT_API void stay() noexcept;

/// Starts a detached OS thread named `name` that calls entry(argument), with all signals blocked, however the
/// process is patched. Returns 0 or an errno.
WEFT_API int start_os_thread(const char* name, void* (*entry)(void* argument), void* argument) noexcept;

/// Called, without the interpreter's lock or with it, on a fiber whose blocking call of libc is about to fail
/// because of a cancellation (kCancelled) or the deadline of a scope (kExpired). May suspend.
WEFT_API void set_revocation_hook(void (*hook)(Outcome outcome) noexcept) noexcept;

/// Calls call(argument), in which the calling fiber's waits for `semaphore` (null: any) end with ETIMEDOUT
/// when it is cancelled or a scope expires. But a fiber that was told so before, by whatever wait, waits on:
/// who cleans up takes locks. Returns kCancelled or kExpired if a wait ended so, else kReady.
WEFT_API Outcome with_revocable_semaphore(const void* semaphore, void (*call)(void* argument),
                                          void* argument) noexcept;

/// The library's version as text, to be compared with that of the caller's headers.
WEFT_API const char* library_version() noexcept;

}  // namespace weft::detail
