// Dumps: what every fiber does and waits for, on request.
#pragma once

#include <sys/types.h>

#include <csignal>
#include <cstdint>
#include <string>

#include "fiber/carrier.hpp"
#include "host/text_sink.hpp"
#include "runtime/runtime.hpp"

namespace weft::engine::dump {

/// What layers that know more can add to a dump. Set at start; null: nothing to add. Called on any thread
/// while the carriers are stopped, hence neither may allocate, lock or follow pointers that may be bad.
struct Hooks {
  /// Writes who would have to act for this wait to end, as in "held by fiber 7"; nothing if it does not know.
  void (*describe_holder)(const WaitReason& reason, host::TextSink& sink) noexcept = nullptr;
};
extern Hooks hooks;

/// Serves `weft dump` from now on, on the monitor's thread, through a socket that only this user and root are
/// answered on; in a fork child under the child's own number. Once, after the runtime has started. If there
/// can be no socket, dumps by signal still work.
void serve(Runtime& runtime) noexcept;

/// From now on `signal` has the process write a dump to standard error. May be called before the runtime has
/// started, and from a preloaded library's constructor. The handler does not interrupt system calls; one that
/// the program installs later takes its place.
void on_signal(int signal) noexcept;

/// Whether `action` is the handler of on_signal(): it is none of the program's, so no wait ends because it
/// ran.
bool is_handler(const struct sigaction& action) noexcept;

enum class Form : uint8_t {
  kGrouped,  ///< fibers that stand at the same place are told of once
  kAll,      ///< each by itself
};

/// The dump of `carrier` and of all fibers. Its fibers stop meanwhile: for some microseconds each. Any
/// thread; may block for as long as a fiber runs without giving way, up to 50 ms.
std::string take(Carrier& carrier, Form form = Form::kGrouped);

/// The other side: asks process `pid` for its dump and writes it to `fd`. Returns what is wrong, empty if all
/// went well.
std::string fetch(pid_t pid, int fd, Form form = Form::kGrouped);

}  // namespace weft::engine::dump
