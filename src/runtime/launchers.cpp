#include "runtime/launchers.hpp"

namespace weft::engine {

namespace {

constexpr std::string_view kLaunchers[] = {
    // shells
    "sh", "bash", "dash", "zsh", "ksh", "mksh", "fish", "busybox",
    // what sets something first
    "chroot", "chrt", "env", "flock", "ionice", "nice", "nohup", "nsenter", "numactl", "prlimit", "runuser",
    "setarch", "setpriv", "setsid", "stdbuf", "taskset", "time", "timeout", "unshare", "xargs",
    // init programs
    "dumb-init", "tini",
    // tracers
    "ltrace", "strace"};

constexpr std::string_view kLaunchersWithPython[] = {"gdb", "perf"};

template <size_t N>
bool is_one_of(const std::string_view (&names)[N], std::string_view name) noexcept {
  for (const std::string_view candidate : names)
    if (candidate == name) return true;
  return false;
}

}  // namespace

bool is_launcher(std::string_view name) noexcept {
  return is_one_of(kLaunchers, name) || is_launcher_with_python(name);
}

bool is_launcher_with_python(std::string_view name) noexcept {
  return is_one_of(kLaunchersWithPython, name);
}

}  // namespace weft::engine
