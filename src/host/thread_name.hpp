// The names that Python gives its threads.
#pragma once

#include <cstddef>

#include "host/text_sink.hpp"
#include "host/thread_states.hpp"

namespace weft::engine::host {

/// Writes the name of a thread that `threading` has started, as threading.Thread.name has it; nothing of
/// others: the main thread, threads of _thread or of C code. Up to 3.13 the operating system does not know
/// these names.
///
/// The object is found as the first local variable of the thread's outermost frame, Thread._bootstrap(self),
/// and every step is checked. Takes no lock, runs no Python, allocates nothing and survives any pointer.
void write_thread_name(const Python& python, const ThreadStateInfo& thread, TextSink& sink) noexcept;

}  // namespace weft::engine::host
