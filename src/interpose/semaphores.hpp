// Semaphores posted in signal handlers.
#pragma once

namespace weft::engine::interpose {

/// Wakes the waiters of semaphores that handlers have posted since the last call. Part of the attention hook.
void wake_deferred_semaphores() noexcept;

}  // namespace weft::engine::interpose
