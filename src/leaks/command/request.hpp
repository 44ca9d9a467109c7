// What `weft leaks` is asked to do.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace weft::leaks {

/// Something whose leaks are looked for.
struct Target {
  enum class Kind {
    kPython,   ///< a function of a module, or of a file
    kNative,   ///< a function that a program or a shared library exports
    kCommand,  ///< a command that is run again and again
  };
  Kind kind = Kind::kCommand;
  std::string text;                  ///< as it was given
  std::string place;                 ///< the module or the file; of a command nothing
  bool library = false;              ///< the file is a shared library
  std::string function;              ///< behind the last colon; of a command nothing
  std::vector<std::string> command;  ///< of a command only
};

/// "module:function", "file.py:function", "./program:function", "./library.so:function", or "./program", a
/// command of one word. std::invalid_argument: it is none of them; says what is expected.
Target parse_target(const std::string& text);

/// What is looked at, by the names that users type.
inline constexpr const char* kWatched[] = {"memory",    "descriptors", "threads", "fibers",
                                           "processes", "files",       "segments"};
/// Of Python's functions alone.
inline constexpr const char* kWatchedInPython[] = {"python-threads", "garbage"};

/// How. What is 0 or empty has its default in whoever makes the check.
struct Request {
  std::vector<std::string> arguments;  ///< of the function
  uint64_t calls = 0;                  ///< in the first run; of a command: runs
  int warm_up = 10;
  int runs = 10;
  uint64_t tolerance = 0;
  double time_limit = 10;
  uint64_t memory_limit = 256 << 20;
  bool search = true;
  std::vector<std::string> only;  ///< of what is watched; empty: all
  std::chrono::duration<double> call_limit = std::chrono::seconds(60);
  std::string python = "python3";  ///< the interpreter
  bool show_output = false;        ///< of what is checked, on standard error
  bool any_exit = false;           ///< a command may fail
};

/// "4K", "256M", "1G", or bytes. std::invalid_argument.
uint64_t parse_size(const std::string& text);

/// The options, for the process that makes the check: one JSON object.
std::string to_json(const Target& target, const Request& request);

}  // namespace weft::leaks
