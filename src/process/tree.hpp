// What descends from a process. A keeper is a subreaper: a process whose parent ends becomes its child, so
// whatever the command started, however it detached itself, is in the keeper's tree until it ends. Of both
// the keeper and the library: plain libc only.
#pragma once

#include <sys/types.h>

#include <vector>

namespace weft::process {

struct Process {
  pid_t pid, parent, group;
  char state;  // as in /proc/PID/stat
  long threads;
};

/// All that descends from `ancestor` and has not ended, as of now. Without /proc: nothing.
std::vector<Process> descendants(pid_t ancestor);

/// Sends `signal` to `pid` if that still descends from the caller, whatever became of the number meanwhile.
/// Returns 0 or an errno; ESRCH: it does not.
int signal_descendant(pid_t pid, int signal);

}  // namespace weft::process
