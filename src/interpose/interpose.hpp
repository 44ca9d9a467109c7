// Interposition: routing a process's libc calls to the engine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/text_sink.hpp"
#include "runtime/settings.hpp"

namespace weft::engine {
class Runtime;
}

namespace weft::engine::interpose {

/// Routes the calls of every loaded object, and of those loaded later, to the engine. The runtime itself
/// starts when the first thread that is to be a fiber is created; until then routed calls go straight to
/// libc. Idempotent. Usable in a preloaded library's constructor. Returns the number of slots rewritten: none
/// where `settings` turn routing off.
int install(const Settings& settings) noexcept;

bool installed() noexcept;

/// Called on the carrier right after the runtime has started: what the routed calls need of it.
void runtime_started(Runtime& runtime) noexcept;

/// Writes why no thread of this process becomes a fiber, as in "--threads=none: threads stay OS threads";
/// nothing where threads do, or where nothing was installed. What it says of an interpreter is that of
/// host::Python::present(). Any thread. Async-signal-safe.
void describe_no_fibers(host::TextSink& sink) noexcept;

/// A call that really blocked its carrier, by the call and the library that made it.
struct Pin {
  std::string call;
  std::string library;
  uint64_t count;
  uint64_t total_ns;
  uint64_t longest_ns;
};

struct Report {
  std::vector<Pin> pins;
  uint64_t native_threads = 0;  ///< OS threads that were created through a routed call
};

/// What was counted so far. Any thread.
Report report();

}  // namespace weft::engine::interpose
