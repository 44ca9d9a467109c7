// The checks that `weft leaks` makes, each in a process of its own.
#pragma once

#include <functional>
#include <string>

#include "leaks/command/outcome.hpp"
#include "leaks/command/request.hpp"

namespace weft::leaks {

/// Takes what a check says of its progress, a line without an end, now and then.
using Progress = std::function<void(const std::string&)>;

/// "SIGTERM"; "signal 40" of one without a name.
std::string name_of_signal(int number);

/// Has a function checked in a new process: an interpreter's, or one of the program, in place of its main().
/// `agent`: libweft-leaks.so. Blocks until that has ended, and all that descends from it. std::system_error:
/// no process or descriptor can be had.
Outcome check_function(const Target& target, const Request& request, const std::string& agent,
                       const Progress& progress);

/// Runs a command some times, and looks at what each run leaves in the system: processes, temporary files,
/// shared memory. Ends the processes. For a program without other children. std::system_error.
Outcome check_command(const Target& target, const Request& request, const Progress& progress);

}  // namespace weft::leaks
