// libweft-leaks.so: what `weft leaks ./program:function` has the loader load into the program. In place of
// main(), when the program is set up, the function is called again and again, and what it leaves is told.
//
// Linked to libweft as a program is; what it uses is the public API.
#include <cxxabi.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "weft/heap/leak_check.hpp"

namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;
using weft::heap::LeakCheck;
using weft::heap::LeakOptions;
using weft::heap::LeakReport;
using weft::heap::Resource;

constexpr const char* kRequest = "WEFT_LEAKS_REQUEST";
constexpr size_t kMostArguments = 6;  // that the x86-64 calling convention passes in registers

// What this process was started with; null: it is not the one that is to check anything.
char* g_request = nullptr;
int g_report = -1;

struct Mistake : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Writes lines to whoever had this process started.
class Report {
 public:
  /// `alive`: how often it says that calls return.
  Report(int fd, std::chrono::duration<double> alive) noexcept : fd_(fd), alive_(alive) {}

  void tell(const Json& event) {
    const std::string line = event.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    for (size_t at = 0; at < line.size();) {
      const ssize_t size = write(fd_, line.data() + at, line.size() - at);
      if (size < 0 && errno != EINTR) _exit(EXIT_FAILURE);  // nobody is there any more
      if (size > 0) at += static_cast<size_t>(size);
    }
    last_ = Clock::now();
  }
  /// A call returned.
  void tell_alive() {
    if (Clock::now() - last_ > alive_) tell(Json::object());
  }

 private:
  const int fd_;
  const std::chrono::duration<double> alive_;
  Clock::time_point last_ = Clock::now();
};

// A copy under a high number, closed with the program that is executed from here: 3 is the function's.
int take_descriptor() {
  constexpr int kPassed = 3, kHigh = 900;
  int fd = fcntl(kPassed, F_DUPFD_CLOEXEC, kHigh);
  if (fd < 0) fd = fcntl(kPassed, F_DUPFD_CLOEXEC, kPassed + 1);
  if (fd < 0) _exit(EXIT_FAILURE);
  close(kPassed);
  return fd;
}

// What the processes that the function starts are to have: all but us.
void restore_environment() {
  unsetenv(kRequest);
  const char* const preloaded = getenv("LD_PRELOAD");
  const char* const others = preloaded ? strchr(preloaded, ':') : nullptr;
  if (others)
    setenv("LD_PRELOAD", std::string(others + 1).c_str(), 1);
  else
    unsetenv("LD_PRELOAD");
}

// Before the constructors of the program, which may start processes: those are to have nothing of ours.
[[gnu::constructor(101)]] void take_request() {
  const char* const request = getenv(kRequest);
  if (!request) return;
  g_request = strdup(request);
  g_report = take_descriptor();
  restore_environment();
}

void* open_place(const std::string& place, bool is_library) {
  void* const library = dlopen(is_library ? place.c_str() : nullptr, RTLD_NOW);
  if (!library) throw Mistake(dlerror());
  return library;
}

using Function = long (*)(long, long, long, long, long, long);

Function find_function(const Json& request) {
  const std::string place = request.at("place"), name = request.at("function");
  void* const found = dlsym(open_place(place, request.at("library")), name.c_str());
  if (!found)
    throw Mistake(place + " exports no " + name +
                  "; link a program with -rdynamic (CMake: ENABLE_EXPORTS ON), and declare a C++ function "
                  "extern \"C\", or name it as nm -D prints it");
  return reinterpret_cast<Function>(found);
}

// Whole numbers as they are, all else as text; quotes make text of a number.
std::array<long, kMostArguments> to_registers(std::vector<std::string>& arguments) {
  if (arguments.size() > kMostArguments)
    throw Mistake("a native function is called with at most 6 arguments, and there are " +
                  std::to_string(arguments.size()));
  std::array<long, kMostArguments> values{};
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string& text = arguments[i];
    char* end = nullptr;
    errno = 0;
    const long number = strtol(text.c_str(), &end, 0);
    if (!text.empty() && *end == '\0') {
      if (errno == ERANGE) throw Mistake("the argument " + text + " does not fit in 64 bits");
      values[i] = number;
      continue;
    }
    strtod(text.c_str(), &end);
    if (!text.empty() && *end == '\0')
      throw Mistake("the argument " + text +
                    " is no whole number: a native function is called with whole numbers and texts; quote "
                    "it, as in '\"" +
                    text + "\"', to pass it as text");
    if (text.size() >= 2 && text.front() == '"' && text.back() == '"') text = text.substr(1, text.size() - 2);
    values[i] = reinterpret_cast<long>(text.c_str());
  }
  return values;
}

LeakOptions options_of(const Json& request) {
  static const std::map<std::string, Resource> kResources = {{"descriptors", Resource::kDescriptor},
                                                             {"threads", Resource::kThread},
                                                             {"fibers", Resource::kFiber},
                                                             {"processes", Resource::kProcess},
                                                             {"files", Resource::kFile},
                                                             {"segments", Resource::kSegment}};
  LeakOptions options;
  options.warm_up = request.at("warm_up");
  options.times = request.value("calls", options.times);
  options.runs = request.at("runs");
  options.tolerance = request.at("tolerance");
  options.limit = std::chrono::duration<double>(request.at("time_limit").get<double>());
  options.memory_limit = request.at("memory_limit");
  options.call_limit = std::chrono::hours(24 * 365);  // whoever reads the report has a limit of its own
  options.search = request.at("search");
  const std::vector<std::string> only = request.at("only");
  if (only.empty()) return options;
  options.memory = false;
  options.resources.clear();
  for (const std::string& name : only) {
    if (const auto known = kResources.find(name); known != kResources.end())
      options.resources.push_back(known->second);
    else
      options.memory = true;
  }
  return options;
}

Json failure(const char* what, const std::string& text) {
  return {{"verdict", "failed"}, {"what", what}, {"text", text}};
}

Json check(const Json& request, Report& report) {
  const Function function = find_function(request);
  std::vector<std::string> arguments = request.at("arguments");
  const auto values = to_registers(arguments);
  LeakOptions options = options_of(request);
  options.progress = [&](const weft::heap::LeakProgress& progress) {
    report.tell({{"line", progress.line}});
  };
  const pid_t self = getpid();
  const LeakReport found = LeakCheck(options).run([&] {
    function(values[0], values[1], values[2], values[3], values[4], values[5]);
    if (getpid() != self) {
      report.tell(failure("forked", "forked, and its child came back from it"));
      _exit(EXIT_FAILURE);
    }
    report.tell_alive();
  });
  const bool memory = found.text().starts_with("memory");
  return {{"verdict", found.leaks() ? "leaks" : "clean"},
          {"what", !found.leaks() ? ""
                   : memory       ? "memory"
                                  : "resources"},
          {"text", found.text()},
          {"svg", found.svg()},
          {"calls", found.calls()},
          {"uncertain", found.uncertain()},
          {"exact", found.exact() || found.calls() == 0}};
}

std::string type_of_exception() {
  const std::type_info* const type = abi::__cxa_current_exception_type();
  if (!type) return "something that is no exception";
  int status = 0;
  char* const name = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
  const std::string text = name ? name : type->name();
  free(name);
  return text;
}

int instead_of_main(int, char**, char**) {
  const Json request = Json::parse(g_request);
  const double limit = request.at("call_limit");
  Report report(g_report, std::chrono::duration<double>(std::min(1.0, limit / 4)));
  try {
    report.tell({{"loaded", true}});
    report.tell(check(request, report));
  } catch (const Mistake& mistake) {
    report.tell(failure("program", mistake.what()));
  } catch (const std::exception& error) {
    report.tell(failure("exception", "threw " + type_of_exception() + ": " + error.what()));
  } catch (...) {
    report.tell(failure("exception", "threw " + type_of_exception()));
  }
  _exit(EXIT_SUCCESS);  // the program has not run, so what it does at its end may not hold
}

}  // namespace

// Of glibc, called by the program's first instructions; the C++ statics of all that is loaded are made in it.
extern "C" [[gnu::visibility("default")]] int __libc_start_main(int (*main)(int, char**, char**), int argc,
                                                                char** argv, void (*init)(), void (*fini)(),
                                                                void (*rtld_fini)(), void* stack_end) {
  using Start = decltype(&__libc_start_main);
  const auto start = reinterpret_cast<Start>(dlsym(RTLD_NEXT, "__libc_start_main"));
  return start(g_request ? instead_of_main : main, argc, argv, init, fini, rtld_fini, stack_end);
}
