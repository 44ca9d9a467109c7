// Where a command serves, for those who looked elsewhere.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace weft::process {

/// Where processes that descend from `ancestor` accept TCP connections, each place once, as "127.0.0.1:8000",
/// "0.0.0.0:8000" or "[::]:8000". Reads /proc: some milliseconds, more with thousands of processes or
/// sockets. What cannot be read, as other users' processes, is left out. Sockets of the network namespace of
/// the first descendant.
std::vector<std::string> listening_places(pid_t ancestor);

}  // namespace weft::process
