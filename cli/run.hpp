#pragma once

#include <string>
#include <vector>

#include "runtime/settings.hpp"

namespace weft::engine::cli {

/// What a process exits with when it is `weft run` that fails, and not the command. As with env, timeout and
/// shells.
enum ExitCode : int { kUsage = 2, kOwnFailure = 125, kCannotRun = 126, kNotFound = 127 };

/// Replaces this process by `command` under Weft. Returns, after a message on standard error, only if that
/// failed.
int run(const std::vector<std::string>& command, Settings settings);

}  // namespace weft::engine::cli
