// What `weft exec` does: services, a command while they are ready, and their end.
#pragma once

#include <string>
#include <vector>

#include "process/service.hpp"
#include "process/voice.hpp"

namespace weft::process {

struct ExecOptions {
  std::vector<Service> services;     ///< with those that others come after first
  std::vector<std::string> command;  ///< empty: the services run until they end, or a signal comes
  Voice::Settings voice;
  /// Between a SIGTERM or SIGHUP that is forwarded to the command and its SIGKILL.
  std::chrono::nanoseconds grace = std::chrono::seconds(10);
};

/// What a process exits with when the command is not the reason.
enum ExecCode : int { kExecFailed = 125, kCannotExecute = 126, kCommandNotFound = 127 };

/// Returns the code to exit with. For the main thread of a process that has no others, once.
int run_services(ExecOptions options);

}  // namespace weft::process
