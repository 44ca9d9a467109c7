// Why a thread could not be made.
#pragma once

#include <cstddef>

namespace weft::engine::interpose {

/// Says on standard error what keeps the engine from making another fiber, and what to do about it; once a
/// process, since a program may try again and again, and its own message (Python's "can't start new thread")
/// has no reason. `stack_size` is what was asked for. Any thread. Looks around by raw system calls, without
/// memory of its own: there may be none left. Keeps errno.
void report_refused_thread(size_t stack_size) noexcept;

}  // namespace weft::engine::interpose
