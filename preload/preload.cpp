// libweft-preload.so: what `weft run` has the loader load into the program.
//
// Its constructor runs before the program, before the interpreter, and before the C++ statics of this very
// library: nothing that it reaches may need dynamic initialisation.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "fiber/sys.hpp"
#include "interpose/interpose.hpp"
#include "runtime/dump.hpp"
#include "runtime/settings_environment.hpp"
#include "runtime/stats.hpp"

namespace {

// Is this the process that is to run under Weft? A shell, env, xargs, make on the way to it is not: there the
// library stays dormant and the environment as it is. Where the threads of all are asked for there is nothing
// to wait for.
bool is_host() {
  const char* threads = getenv("WEFT_THREADS");
  if (threads && *threads && strcmp(threads, "python") != 0) return true;
  return dlsym(RTLD_DEFAULT, "Py_BytesMain") || dlsym(RTLD_DEFAULT, "Py_RunMain");
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
  const int slots = settings.routing ? weft::interpose::install(settings) : 0;
  if (settings.dump_signal) weft::dump::on_signal(settings.dump_signal);
  if (settings.verbose)
    say("process " + std::to_string(getpid()) + ": " + std::to_string(slots) + " slots of libc calls routed");
}

}  // namespace
