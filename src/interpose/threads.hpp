// Fibers as the program's threads.
#pragma once

#include <pthread.h>

#include "fiber/fiber.hpp"
#include "runtime/settings.hpp"

namespace weft::engine {
class Runtime;
}

namespace weft::engine::interpose {

/// The fiber a pthread_t names, or null if it names an OS thread.
Fiber* fiber_of(pthread_t thread) noexcept;

/// The process's runtime, started once and then prepared once: the first threads of a process may be created
/// on several OS threads at the same time. Null with errno set where it cannot be had. REQUIRES: where there
/// is an interpreter, its lock is held.
Runtime* started_runtime() noexcept;

/// Called by install(): what pthread_create starts the runtime with.
void set_thread_settings(const Settings& settings) noexcept;

}  // namespace weft::engine::interpose
