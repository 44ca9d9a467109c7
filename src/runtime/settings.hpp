// What the user chose for a run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "poll/poller.hpp"

namespace weft::engine {

/// Whose threads become fibers.
enum class Threads : uint8_t {
  kPython,  ///< those an interpreter creates; a process without one is left alone
  kAll,     ///< every thread the program or a library creates
  kNone,    ///< none: calls are routed, threads stay OS threads
};

struct Settings {
  Backend backend = Backend::kAuto;
  size_t stack_size = 1024 * 1024;  ///< bytes, for fibers whose creator does not say
  Threads threads = Threads::kPython;
  bool verbose = false;
  bool stats = false;      ///< a summary on standard error at exit
  std::string stats_file;  ///< and as JSON into this file; "%p" stands for the process id
  bool children = false;   ///< the processes that the first interpreter starts are patched, too
  int dump_signal = 0;     ///< a signal that makes the process dump its fibers; 0: none
  bool routing = true;     ///< false: all is loaded, nothing routed (to see what the routing does)
};

/// One setting as users write it: an option of `weft run` and a variable of the environment.
struct SettingForm {
  const char* option;    ///< "--stack-size"
  const char* variable;  ///< "WEFT_STACK_SIZE"
  const char* value;  ///< what stands for the value in a usage line; null for a flag, whose option means "1"
  const char* allowed;  ///< what parse() takes, in words
  const char* help;
  /// False, with `settings` unchanged, if `text` is not allowed.
  bool (*parse)(std::string_view text, Settings& settings);
  /// What parse() would make the same setting of; empty for the default.
  std::string (*format)(const Settings& settings);

  /// What to tell a user whose `text` was refused; `name` is the option or variable.
  std::string complaint(std::string_view name, std::string_view text) const;
};

/// All of them, in the order of their documentation.
std::span<const SettingForm> setting_forms() noexcept;

}  // namespace weft::engine
