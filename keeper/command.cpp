#include "command.hpp"

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>

namespace weft::process {

bool read_order(Command& command) {
  struct stat status;
  if (fstat(kOrderFd, &status) != 0 || static_cast<size_t>(status.st_size) < sizeof(Order)) return false;
  const size_t size = static_cast<size_t>(status.st_size);
  void* const mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, kOrderFd, 0);
  if (mapped == MAP_FAILED) return false;
  memcpy(&command.order, mapped, sizeof(Order));
  const Order& order = command.order;
  if (order.protocol != kProtocol || order.passed > kMaxPassed || order.limits > kMaxLimits ||
      order.groups > static_cast<int32_t>(kMaxGroups))
    return false;
  char* next = static_cast<char*>(mapped) + sizeof(Order);
  char* const end = static_cast<char*>(mapped) + size;
  auto take = [&]() -> char* {
    char* const text = next;
    void* const nul = next < end ? memchr(next, 0, static_cast<size_t>(end - next)) : nullptr;
    if (!nul) return nullptr;
    next = static_cast<char*>(nul) + 1;
    return text;
  };
  auto take_list = [&](std::vector<char*>& list, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
      char* const text = take();
      if (!text) return false;
      list.push_back(text);
    }
    list.push_back(nullptr);
    return true;
  };
  command.file = take();
  command.folder = take();
  return command.file && command.folder && take_list(command.arguments, order.arguments) &&
         take_list(command.environment, order.variables);
}

void close_from(int first, bool at_execution) {
  if (syscall(SYS_close_range, first, ~0u, at_execution ? CLOSE_RANGE_CLOEXEC : 0) == 0) return;
  const int limit = static_cast<int>(sysconf(_SC_OPEN_MAX));  // Linux before 5.11
  for (int fd = first; fd < limit; ++fd)
    if (at_execution)
      fcntl(fd, F_SETFD, FD_CLOEXEC);
    else
      close(fd);
}

namespace {

struct Failure {
  Stage stage;
  int error;
};

// A number above all that are to be overwritten, or read from before.
int first_free(const Order& order) {
  int highest = kFirstPassedFd + static_cast<int>(order.passed);
  for (uint32_t i = 0; i < order.passed; ++i) highest = std::max(highest, order.targets[i] + 1);
  return highest;
}

// Puts the passed descriptors where the command looks for them, and marks all others to be closed.
bool place_descriptors(const Order& order) {
  const int highest = first_free(order);
  int moved[kMaxPassed];
  for (uint32_t i = 0; i < order.passed; ++i) {
    moved[i] = fcntl(kFirstPassedFd + static_cast<int>(i), F_DUPFD_CLOEXEC, highest);
    if (moved[i] < 0) return false;
  }
  close_from(3, true);
  for (uint32_t i = 0; i < order.passed; ++i)
    if (dup2(moved[i], order.targets[i]) < 0) return false;
  return true;
}

bool take_identity(const Order& order) {
  if (order.groups >= 0 && setgroups(static_cast<size_t>(order.groups), order.group_list) != 0) return false;
  if (order.group >= 0 && setresgid(order.group, order.group, order.group) != 0) return false;
  return order.user < 0 || setresuid(order.user, order.user, order.user) == 0;
}

bool set_limits(const Order& order) {
  for (uint32_t i = 0; i < order.limits; ++i) {
    const rlimit limit{order.limit[i].soft, order.limit[i].hard};
    if (setrlimit(static_cast<__rlimit_resource>(order.limit[i].resource), &limit) != 0) return false;
  }
  errno = 0;
  return order.nice == 0 || nice(order.nice) != -1 || errno == 0;
}

// By the system call: the library refuses to touch the two signals that are its own, and its posix_spawn(),
// by which the keeper was started, leaves those ignored.
void reset_signals(const Order& order) {
  const uint64_t by_default[4] = {};  // the kernel's struct sigaction
  for (int number = 1; number < NSIG; ++number) {
    const bool kept = order.keep_ignored && (number == SIGPIPE || number == SIGXFSZ);
    if (!kept) syscall(SYS_rt_sigaction, number, by_default, nullptr, sizeof order.signal_mask);
  }
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &order.signal_mask, nullptr, sizeof order.signal_mask);
}

// execve() in each folder of the command's PATH. Tells why by the errno that says most: a file that is there
// but cannot be executed before one that is not there.
int execute(const Command& command) {
  char* const* arguments = command.arguments.data();
  char* const* environment = command.environment.data();
  if (strchr(command.file, '/')) {
    execve(command.file, arguments, environment);
    return errno;
  }
  const char* path = "/usr/local/bin:/usr/bin:/bin";
  for (const char* variable : command.environment)
    if (variable && strncmp(variable, "PATH=", 5) == 0) path = variable + 5;
  int error = ENOENT;
  for (const char* folder = path;; ++folder) {
    const size_t length = strcspn(folder, ":");
    const std::string file = (length ? std::string(folder, length) : std::string(".")) + "/" + command.file;
    execve(file.c_str(), arguments, environment);
    if (errno != ENOENT && errno != ENOTDIR && (errno != EACCES || error == ENOENT)) error = errno;
    if (error != ENOENT && error != EACCES) return error;
    folder += length;
    if (!*folder) return error;
  }
}

// Who is handed listening sockets is told by its own number that they are for it, as sd_listen_fds(3) has it.
void fill_in_number(Command& command) {
  static char text[32];
  for (char*& variable : command.environment)
    if (variable && strcmp(variable, "LISTEN_PID=") == 0) {
      snprintf(text, sizeof text, "LISTEN_PID=%d", getpid());
      variable = text;
    }
}

[[noreturn]] void become(Command& command, pid_t keeper, int report) {
  auto fail = [&](Stage stage) {
    const Failure failure{stage, errno};
    [[maybe_unused]] const ssize_t written = write(report, &failure, sizeof failure);
    _exit(127);
  };
  setsid();
  report = fcntl(report, F_DUPFD_CLOEXEC, first_free(command.order));
  if (report < 0) _exit(127);
  if (command.order.mask >= 0) umask(static_cast<mode_t>(command.order.mask));
  if (!place_descriptors(command.order)) fail(Stage::kDescriptors);
  if (!set_limits(command.order)) fail(Stage::kLimits);
  if (!take_identity(command.order)) fail(Stage::kIdentity);
  if (*command.folder && chdir(command.folder) != 0) fail(Stage::kFolder);
  // Only now: another identity would have cleared it.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != keeper) _exit(127);
  fill_in_number(command);
  reset_signals(command.order);
  errno = execute(command);
  fail(Stage::kExecute);
  __builtin_unreachable();
}

}  // namespace

Started start(Command& command) {
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) return {-1, Stage::kDescriptors, errno};
  const pid_t keeper = getpid();
  const pid_t pid = fork();
  if (pid < 0) return {-1, Stage::kKeeper, errno};
  if (pid == 0) become(command, keeper, report[1]);
  close(report[1]);
  Failure failure{};
  ssize_t size;
  while ((size = read(report[0], &failure, sizeof failure)) < 0 && errno == EINTR) {
  }
  close(report[0]);
  // One that fails without a word has its status for that.
  if (size != sizeof failure) return {pid, Stage::kNone, 0};
  waitpid(pid, nullptr, 0);
  return {-1, failure.stage, failure.error};
}

}  // namespace weft::process
