// The command that a keeper starts.
#pragma once

#include <vector>

#include "process/protocol.hpp"

namespace weft::process {

struct Command {
  Order order;
  const char* file = nullptr;
  const char* folder = nullptr;
  std::vector<char*> arguments;  // each with a null pointer at its end
  std::vector<char*> environment;
};

/// Reads the order at kOrderFd into memory that stays. False: it is not one.
bool read_order(Command& command);

/// Closes all descriptors from `first` on; or only has execve() close them.
void close_from(int first, bool at_execution = false);

struct Started {
  pid_t pid = -1;
  Stage stage = Stage::kNone;  // what failed
  int error = 0;
};

/// Starts it as the leader of a session and group of its own; it dies with the keeper. Returns when it runs
/// or has failed to. REQUIRES: all signals are blocked.
Started start(Command& command);

}  // namespace weft::process
