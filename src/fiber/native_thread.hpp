// OS threads of the engine's own.
#pragma once

#include <pthread.h>

namespace weft::engine {

/// Starts an OS thread named `name` that runs entry(argument), with all signals blocked: the program's
/// handlers never run on it. Reaches libc's pthread_create however the process is patched. Returns 0 or an
/// errno.
int start_native_thread(pthread_t& thread, const char* name, void* (*entry)(void*), void* argument) noexcept;

/// Waits for its end.
void join_native_thread(pthread_t thread) noexcept;

}  // namespace weft::engine
