// Mutexes as fibers lock them; for the condition variables, which let go of one while they wait.
#pragma once

#include <pthread.h>

#include "fiber/fiber.hpp"
#include "host/text_sink.hpp"

namespace weft::engine::interpose {

/// The number by which a fiber is known where libc keeps kernel thread ids: above any such id, and not 0.
int thread_tag(const Fiber& fiber) noexcept;
/// The fiber known by `tag`, or null.
Fiber* fiber_of_tag(int tag) noexcept;

/// pthread_mutex_lock as the running fiber, or natively on a thread that runs none. Never interrupted. 0 or
/// an errno; ETIMEDOUT after `deadline`.
int lock_mutex(pthread_mutex_t* mutex, Nanos deadline, const char* call) noexcept;
int unlock_mutex(pthread_mutex_t* mutex) noexcept;

/// For dumps: who holds the mutex that `reason` waits for, or is the thread it joins. Neither allocates nor
/// locks.
void describe_holder(const WaitReason& reason, host::TextSink& sink) noexcept;

}  // namespace weft::engine::interpose
