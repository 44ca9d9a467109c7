#include "runtime/doctor_system.hpp"

#include <fcntl.h>
#include <gnu/libc-version.h>
#include <liburing.h>
#include <spawn.h>
#include <sys/auxv.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace weft::engine::doctor {

namespace {

constexpr unsigned long kHwcap2Fsgsbase = 2;  // arch/x86/include/uapi/asm/hwcap2.h

struct Feature {
  unsigned bit;
  const char* name;
};
// include/uapi/linux/io_uring.h; by number, since the headers may be older than the kernel.
constexpr Feature kFeatures[] = {
    {0, "single_mmap"},     {1, "nodrop"},         {2, "submit_stable"},    {3, "rw_cur_pos"},
    {4, "cur_personality"}, {5, "fast_poll"},      {6, "poll_32bits"},      {7, "sqpoll_nonfixed"},
    {8, "ext_arg"},         {9, "native_workers"}, {10, "rsrc_tags"},       {11, "cqe_skip"},
    {12, "linked_file"},    {13, "reg_reg_ring"},  {14, "recvsend_bundle"}, {15, "min_timeout"},
};

bool has_seccomp_filter() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("Seccomp:")) return line.find('2') != line.npos;
  return false;
}

void explain_refusal(int error, IoUring& io_uring) {
  const std::string disabled = first_line("/proc/sys/kernel/io_uring_disabled");
  if (error == EPERM && (disabled == "1" || disabled == "2")) {
    io_uring.why = "kernel.io_uring_disabled is " + disabled;
    io_uring.remedy = "sysctl -w kernel.io_uring_disabled=0";
  } else if ((error == EPERM || error == EACCES || error == ENOSYS) && has_seccomp_filter()) {
    io_uring.why = "a seccomp filter forbids it, as Docker's default one does";
    io_uring.remedy = "docker run --security-opt seccomp=unconfined";
  } else if (error == ENOSYS) {
    io_uring.why = "this kernel is built without it";
  } else if (error == ENOMEM) {
    io_uring.why = "it takes more locked memory than is allowed";
    io_uring.remedy = "ulimit -l unlimited";
  } else {
    io_uring.why = strerror(error);
  }
}

}  // namespace

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string output_of(const std::vector<std::string>& program) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return {};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  std::vector<char*> arguments;
  for (const std::string& argument : program) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int error = posix_spawn(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::string output;
  char buffer[4096];
  for (ssize_t count; error == 0 && (count = read(ends[0], buffer, sizeof buffer)) != 0;) {
    if (count > 0)
      output.append(buffer, static_cast<size_t>(count));
    else if (errno != EINTR)
      break;
  }
  close(ends[0]);
  while (error == 0 && waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return output;
}

IoUring examine_io_uring() {
  IoUring result;
  io_uring ring;
  io_uring_params parameters{};
  const int error = -io_uring_queue_init_params(8, &ring, &parameters);
  if (error != 0) {
    explain_refusal(error, result);
    return result;
  }
  io_uring_queue_exit(&ring);
  result.available = true;
  for (const Feature& feature : kFeatures)
    if (parameters.features & (1u << feature.bit)) result.features.push_back(feature.name);
  return result;
}

SystemReport examine_system() {
  SystemReport report;
  utsname name;
  if (uname(&name) == 0) report.kernel = std::string(name.sysname) + " " + name.release;
  report.glibc = gnu_get_libc_version();
  report.io_uring = examine_io_uring();
  if (const auto poller = Poller::create(Backend::kAuto, &report.backend_why))
    report.backend = poller->backend();
  report.guards = StackPool::instance().guard_kind();
  report.fsgsbase = getauxval(AT_HWCAP2) & kHwcap2Fsgsbase;
  report.pythons = find_pythons();
  report.python3_version = find_python3_version();
  report.limits = examine_limits(report.guards);
  return report;
}

}  // namespace weft::engine::doctor
