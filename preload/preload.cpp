// libweft-preload.so: what `weft run` has the loader load into the program.
//
// Its constructor runs before the program, before the interpreter, and before the C++ statics of this very
// library: nothing that it reaches may need dynamic initialisation.
#include <dlfcn.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "fiber/sys.hpp"
#include "interpose/elf/base_name.hpp"
#include "interpose/interpose.hpp"
#include "runtime/dump.hpp"
#include "runtime/launchers.hpp"
#include "runtime/settings_environment.hpp"
#include "runtime/stats.hpp"

namespace {

constexpr const char* kFile = "/proc/self/exe";

std::string program_path() {
  char path[PATH_MAX];
  const ssize_t length = readlink(kFile, path, sizeof path);
  return {path, length > 0 ? static_cast<size_t>(length) : 0};
}

// Is this process's program one of those that `belongs` knows by name? Where one file is many commands
// (busybox, coreutils), the link that was executed has the name. A script that was executed is no such link:
// its interpreter is the program.
bool is_program(bool (*belongs)(std::string_view)) {
  if (belongs(weft::engine::base_name(program_path()))) return true;
  const auto* executed = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  struct stat file, link;
  return executed && belongs(weft::engine::base_name(executed)) && stat(kFile, &file) == 0 &&
         stat(executed, &link) == 0 && file.st_dev == link.st_dev && file.st_ino == link.st_ino;
}

bool carries_python() {
  return dlsym(RTLD_DEFAULT, "Py_BytesMain") || dlsym(RTLD_DEFAULT, "Py_RunMain");
}

// Is this the process that is to run under Weft? A shell, env, xargs, make on the way to an interpreter is
// not: there the library stays dormant and the environment as it is. Nor is a debugger that carries an
// interpreter for its scripts. Where the threads of all are asked for, or of none, it is the first program
// that does anything itself.
bool is_host() {
  if (carries_python()) return !is_program(&weft::engine::is_launcher_with_python);
  const char* threads = getenv("WEFT_THREADS");
  return threads && *threads && strcmp(threads, "python") != 0 && !is_program(&weft::engine::is_launcher);
}

void say(const std::string& text) {
  const std::string line = "weft: " + text + "\n";
  weft::engine::sys::call(SYS_write, STDERR_FILENO, line.data(), line.size());
}

[[gnu::constructor]] void start() {
  if (!is_host()) return;
  weft::engine::Settings settings;
  if (const std::string error = weft::engine::environment::read(settings); !error.empty()) {
    say(error);
    _exit(2);
  }
  if (!settings.children) weft::engine::environment::withdraw();
  weft::engine::stats::report_at_exit(settings);
  const int slots = weft::engine::interpose::install(settings);
  if (settings.dump_signal) weft::engine::dump::on_signal(settings.dump_signal);
  if (settings.verbose) {
    say("process " + std::to_string(getpid()) + ", " + program_path() +
        (settings.routing ? ", runs under Weft: " + std::to_string(slots) +
                                " references to libc functions, in it and its libraries, now lead to Weft"
                          : ": routing is off, so its calls go to libc as ever"));
  }
}

}  // namespace
