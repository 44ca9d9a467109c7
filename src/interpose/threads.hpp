// Fibers as the program's threads.
#pragma once

#include <pthread.h>

#include "fiber/fiber.hpp"
#include "runtime/settings.hpp"

namespace weft::engine::interpose {

/// The fiber a pthread_t names, or null if it names an OS thread.
Fiber* fiber_of(pthread_t thread) noexcept;

/// Called by install(): what pthread_create starts the runtime with.
void set_thread_settings(const Settings& settings) noexcept;

}  // namespace weft::engine::interpose
