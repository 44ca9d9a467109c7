// Foreground: the command of `weft exec`, which shares the terminal with it.
#pragma once

#include <signal.h>
#include <sys/signalfd.h>

#include <optional>
#include <string>
#include <vector>

#include "weft/io.hpp"

namespace weft::process {

/// The signals of the process, which are blocked and read one by one. For one at a time, on the main thread,
/// before there are other threads.
class Signals {
 public:
  /// Those that the process was started to ignore stay ignored, and are never read. std::system_error.
  Signals();
  /// As it was before.
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  /// The next one; a cancellation point.
  signalfd_siginfo wait();
  /// Is as if SIGTSTP had not been read: the process stops, unless nobody could continue it.
  void stop_self() const;
  /// In a fork child: the signals as the process was given them.
  void restore() const noexcept;

 private:
  OwnedDescriptor descriptor_;
  sigset_t former_mask_;
  struct sigaction former_child_;
};

/// A command in the process's own group, with its standard streams. It is killed with the process.
class Foreground {
 public:
  explicit Foreground(const Signals& signals) : signals_(signals) {}

  /// 0, or the errno of execve(2).
  int start(const std::vector<std::string>& words);
  bool running() const noexcept { return pid_ > 0; }
  void signal(int number) const noexcept;

  enum class Change { kNone, kStopped, kEnded };
  /// After SIGCHLD: what has become of it.
  Change look() noexcept;
  /// As a shell has it. REQUIRES: it has ended.
  int exit_code() const noexcept;

 private:
  const Signals& signals_;
  pid_t pid_ = -1;
  int status_ = 0;
};

}  // namespace weft::process
