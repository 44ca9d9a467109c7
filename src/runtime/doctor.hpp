// `weft doctor`: what Weft finds on this machine, and what it would do to a program.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fiber/stack_pool.hpp"
#include "interpose/elf/program.hpp"
#include "poll/poller.hpp"

namespace weft::engine::doctor {

struct IoUring {
  bool available = false;
  std::vector<std::string> features;  ///< as the kernel calls them, lower case
  std::string why;                    ///< it is refused; empty if available
  std::string remedy;                 ///< the command that lifts that, if there is one
};

/// A limit of the system, as it is now.
struct Limit {
  std::string name;
  std::string value;
  bool bites = false;  ///< it will be reached by programs that Weft is for
  std::string meaning;
  std::string remedy;  ///< the command that lifts it
};

struct PythonFound {
  std::string path;  ///< after symbolic links
  std::string version;
  bool shared = false;  ///< the interpreter is in a libpython
  bool supported = false;
};

struct SystemReport {
  std::string kernel;
  std::string glibc;
  IoUring io_uring;
  std::optional<Backend> backend;  ///< what --backend=auto would choose; none: nothing works
  std::string backend_why;
  GuardKind guards = GuardKind::kProtect;
  bool fsgsbase = false;  ///< programs may set their thread pointer themselves
  std::vector<PythonFound> pythons;
  std::string python3_version;  ///< of what python3 in $PATH leads to; empty: not known
  std::vector<Limit> limits;
};

/// Looks at this machine as this process sees it. Sets up a ring and a poller, runs each Python it finds with
/// -V. Throws std::bad_alloc only.
SystemReport examine_system();

struct RoutedCall {
  std::string symbol, family;
};
struct LeftCall {
  std::string symbol, reason;
};

struct ObjectReport {
  std::string path;
  bool has_tls = false;   ///< has thread_local variables, which fibers with a shared identity would share
  std::string untouched;  ///< why nothing in it is routed; empty if it is looked through
  std::vector<RoutedCall> routed;
  std::vector<LeftCall> left;
};

/// A program that starts itself anew, so that what serves would not run under Weft.
struct Reloader {
  std::string name;
  std::string advice;
};

struct CommandReport {
  std::vector<std::string> command;
  interpose::elf::Program program;
  std::vector<ObjectReport>
      objects;  ///< the program, the libraries it needs, a Python's standard extension modules
  std::vector<std::string> missing;  ///< libraries that are not found
  std::optional<Reloader> reloader;
  bool launcher = false;  ///< the program is one that never runs under Weft itself, but what it starts does
  std::string python_version;  ///< "3.10", as far as the files' names tell
  bool python_supported = true;
};

/// Looks at the files that `command` (a program and its arguments) would load. Runs the dynamic linker to
/// find them, but nothing of the program. REQUIRES: !command.empty().
CommandReport examine_command(const std::vector<std::string>& command);

/// The server in `command` that re-executes itself, if there is one that is known. `flask_debug`:
/// $FLASK_DEBUG.
std::optional<Reloader> find_reloader(const std::vector<std::string>& command, const char* flask_debug);

/// From good to bad.
enum class Level : uint8_t { kOk, kUnknown, kWarning, kError };

/// What a user wants to know first.
struct Verdict {
  Level level;
  std::string text;  ///< one line
};

/// Does Weft work on this machine, and what is there to do?
Verdict judge(const SystemReport& report);

/// Does it help this command? At least one; the worst comes first.
std::vector<Verdict> judge(const CommandReport& report);

enum class Format { kText, kJson };
std::string render(const SystemReport& report, Format format);
std::string render(const CommandReport& report, Format format);

}  // namespace weft::engine::doctor
