#include "process/tree.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace weft::process {

namespace {

// False: there is none of that number.
bool read_process(pid_t pid, Process& process) {
  char path[32], text[512];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t size = read(fd, text, sizeof text - 1);
  close(fd);
  if (size <= 0) return false;
  text[size] = 0;
  const char* const after = strrchr(text, ')');  // the name may hold anything
  process.pid = pid;
  return after && sscanf(after + 1, " %c %d %d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld",
                         &process.state, &process.parent, &process.group, &process.threads) == 4;
}

// One whose first thread has ended looks like a zombie while others run.
bool is_alive(const Process& process) {
  return (process.state != 'Z' && process.state != 'X') || process.threads > 1;
}

// By the chain of parents, each of which is read after its child.
bool descends_from_caller(pid_t pid) {
  const pid_t self = getpid();
  Process process{};
  for (int depth = 0; depth < 10'000 && pid > 1; ++depth, pid = process.parent) {
    if (pid == self) return depth > 0;
    if (!read_process(pid, process)) return false;
  }
  return false;
}

}  // namespace

std::vector<Process> descendants(pid_t ancestor) {
  std::vector<Process> all;
  DIR* const folder = opendir("/proc");
  if (!folder) return {};
  while (const dirent* entry = readdir(folder)) {
    Process process{};
    if (const pid_t pid = atoi(entry->d_name); pid > 0 && read_process(pid, process)) all.push_back(process);
  }
  closedir(folder);
  std::sort(all.begin(), all.end(), [](const Process& a, const Process& b) { return a.parent < b.parent; });
  std::vector<pid_t> family{ancestor};
  std::vector<Process> alive;
  for (size_t i = 0; i < family.size(); ++i) {
    auto child =
        std::lower_bound(all.begin(), all.end(), family[i],
                         [](const Process& process, pid_t parent) { return process.parent < parent; });
    for (; child != all.end() && child->parent == family[i]; ++child) {
      family.push_back(child->pid);
      if (is_alive(*child)) alive.push_back(*child);
    }
  }
  return alive;
}

int signal_descendant(pid_t pid, int signal) {
  const int process = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (process < 0 && errno != ENOSYS && errno != EPERM) return errno;
  // From here on the descriptor stands for one process: what is true of the number now is true of that.
  int error = descends_from_caller(pid) ? 0 : ESRCH;
  if (!error) {
    const long done =
        process >= 0 ? syscall(SYS_pidfd_send_signal, process, signal, nullptr, 0) : kill(pid, signal);
    if (done != 0) error = errno;
  }
  if (process >= 0) close(process);
  return error;
}

}  // namespace weft::process
