// libweft-preload.so: what `weft run` has the loader load into the program.
//
// Its constructor runs before the program, before the interpreter, and before the C++ statics of this very
// library: nothing that it reaches may need dynamic initialisation.
#include <dlfcn.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <cstring>

#include "fiber/sys.hpp"
#include "interpose/interpose.hpp"
#include "runtime/dump.hpp"
#include "runtime/settings_environment.hpp"
#include "runtime/stats.hpp"

namespace {

// Programs that only start the one which is meant: shells (many a `python3` is a shell script), and those
// that set something first. `make`, test runners and supervisors are not among them: who asks for all threads
// of those has them.
bool is_launcher() {
  static constexpr const char* kLaunchers[] = {
      "sh",   "bash",   "dash",  "zsh",    "ksh",    "mksh",    "fish",    "busybox", "env", "xargs",
      "nice", "ionice", "nohup", "setsid", "stdbuf", "timeout", "taskset", "chrt",    "time"};
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length <= 0) return false;
  path[length] = '\0';
  const char* slash = strrchr(path, '/');
  const char* name = slash ? slash + 1 : path;
  for (const char* launcher : kLaunchers)
    if (strcmp(name, launcher) == 0) return true;
  return false;
}

// Is this the process that is to run under Weft? A shell, env, xargs, make on the way to an interpreter is
// not: there the library stays dormant and the environment as it is. Where the threads of all are asked for,
// or of none, it is the first program that does anything itself.
bool is_host() {
  if (dlsym(RTLD_DEFAULT, "Py_BytesMain") || dlsym(RTLD_DEFAULT, "Py_RunMain")) return true;
  const char* threads = getenv("WEFT_THREADS");
  return threads && *threads && strcmp(threads, "python") != 0 && !is_launcher();
}

void say(const std::string& text) {
  const std::string line = "weft: " + text + "\n";
  weft::sys::call(SYS_write, STDERR_FILENO, line.data(), line.size());
}

[[gnu::constructor]] void start() {
  if (!is_host()) return;
  weft::Settings settings;
  if (const std::string error = weft::environment::read(settings); !error.empty()) {
    say(error);
    _exit(2);
  }
  if (!settings.children) weft::environment::withdraw();
  weft::stats::report_at_exit(settings);
  const int slots = weft::interpose::install(settings);
  if (settings.dump_signal) weft::dump::on_signal(settings.dump_signal);
  if (settings.verbose)
    say("process " + std::to_string(getpid()) + ": " + std::to_string(slots) + " slots of libc calls routed");
}

}  // namespace
