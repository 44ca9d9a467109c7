// Options: how a command is started, waited for and ended.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "weft/detail/process.hpp"

namespace weft::process {

/// What a standard stream of a command is connected to.
class StreamTo {
 public:
  /// Standard input: written with Executor::input(). The others: kept, see Executor::output().
  static constexpr StreamTo pipe() noexcept { return StreamTo(detail::kToPipe); }
  /// The program's own.
  static constexpr StreamTo inherit() noexcept { return StreamTo(detail::kToCaller); }
  /// /dev/null.
  static constexpr StreamTo null() noexcept { return StreamTo(detail::kToNull); }
  /// For standard error: where standard output goes.
  static constexpr StreamTo merged() noexcept { return StreamTo(detail::kToOutput); }
  /// An open descriptor of the program's, which stays its own; to be open during start().
  static constexpr StreamTo descriptor(int fd) noexcept { return StreamTo(fd); }

  /// A descriptor, or one of detail::StreamTo; what is neither is refused by the executor.
  constexpr int value() const noexcept { return value_; }

 private:
  explicit constexpr StreamTo(int value) noexcept : value_(value) {}
  int value_;
};

/// A descriptor of the program's that the command inherits, as number `target`, which is 3 or more.
struct PassedDescriptor {
  int source;
  int target;
};

/// A limit of setrlimit(2).
struct Limit {
  int resource;
  uint64_t soft, hard;
};

/// What start() tells once a second while it waits.
struct Progress {
  std::chrono::nanoseconds elapsed;
  const std::string& seen;  ///< by the last look
};

/// How a command is started, waited for and ended. A plain value: an Executor copies it.
struct Options {
  /// The command is one text, which /bin/sh runs. With it, what is signalled is the shell and all it started.
  bool shell = false;
  std::string cwd;  ///< empty: the program's
  /// Over the program's environment; without a value: not set.
  std::map<std::string, std::optional<std::string>> environment;
  bool clear_environment = false;  ///< begin with none instead of the program's

  StreamTo standard_input = StreamTo::pipe();
  StreamTo standard_output = StreamTo::pipe();
  StreamTo standard_error = StreamTo::pipe();
  std::vector<PassedDescriptor> passed;  ///< at most 200; the command inherits no others

  std::vector<Limit> limits;  ///< at most 16
  std::optional<mode_t> umask;
  std::optional<uid_t> user;
  std::optional<gid_t> group;
  std::optional<std::vector<gid_t>> groups;  ///< supplementary ones, at most 64
  int nice = 0;                              ///< added to the program's

  /// For becoming ready. start() then throws StartTimeout.
  std::chrono::nanoseconds timeout = std::chrono::seconds(30);
  /// Between stop_signal and kill_signal.
  std::chrono::nanoseconds grace = std::chrono::seconds(10);
  int stop_signal = SIGTERM;
  /// One that is not SIGKILL is followed by that after another `grace`.
  int kill_signal = SIGKILL;
  /// The longest pause between two looks; they begin half a millisecond apart.
  std::chrono::nanoseconds probe_interval = std::chrono::milliseconds(100);
  /// What stop() takes for a good end, as Executor::exit_code() has it. None: 0, or an end by stop_signal or
  /// kill_signal.
  std::optional<int> expected_exit;
  /// Bytes of each stream that are kept, the last ones; at least 4096.
  size_t kept_output = size_t{1} << 20;
  /// Called by start() once a second, from the first on. What it throws ends the start.
  std::function<void(const Progress&)> on_progress;
};

}  // namespace weft::process
