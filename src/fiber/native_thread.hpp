// OS threads of the engine's own.
#pragma once

#include <pthread.h>

#include <cstdint>

namespace weft::engine {

/// A signal mask that blocks all but signals 32 and 33, which are libc's own: setuid() and its kin wait until
/// each thread has answered the second (seen: a fork child's setgroups() waited for ever).
inline constexpr uint64_t kAllSignals = ~(uint64_t{3} << 31);

/// Starts an OS thread named `name` that runs entry(argument), with all signals blocked: the program's
/// handlers never run on it. Reaches libc's pthread_create however the process is patched. Returns 0 or an
/// errno.
int start_native_thread(pthread_t& thread, const char* name, void* (*entry)(void*), void* argument) noexcept;

/// Waits for its end.
void join_native_thread(pthread_t thread) noexcept;

}  // namespace weft::engine
