// What executors throw.
#pragma once

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>

#include "weft/detail/process.hpp"

namespace weft::process {

/// A command that did not do what was asked of it. what() names it, says what was seen and what to do, and
/// ends with the last lines that the command wrote. When it is thrown, the command has been ended.
class Error : public std::runtime_error {
 public:
  /// `output`: the last lines of the command.
  Error(const std::string& command, const std::string& text, const std::string& output)
      : std::runtime_error("`" + command + "` " + text +
                           (output.empty() ? "" : "\nIts last output:\n" + output)),
        texts_(std::make_shared<const Texts>(Texts{command, output})) {}

  const std::string& command() const noexcept { return texts_->command; }
  /// Its last lines, of both streams if both are pipes.
  const std::string& output() const noexcept { return texts_->output; }

 private:
  struct Texts {
    std::string command, output;
  };
  std::shared_ptr<const Texts> texts_;  // copies of an exception must not fail
};

/// What the command is to provide is there already, from elsewhere; it was not started.
class AlreadyRunning : public Error {
 public:
  AlreadyRunning(const std::string& command, const std::string& present)
      : Error(command, "was not started: " + present, "") {}
};

/// At what a start failed.
using Stage = weft::detail::ChildStage;

/// The command could not be executed.
class NotStarted : public Error {
 public:
  NotStarted(const std::string& command, const std::string& text, int error, Stage stage)
      : Error(command, text, ""), error_(error), stage_(stage) {}
  /// ENOENT, EACCES, EMFILE, ...
  std::error_code code() const noexcept { return {error_, std::system_category()}; }
  Stage stage() const noexcept { return stage_; }

 private:
  int error_;
  Stage stage_;
};

/// The command ended, or closed its output, before it was ready.
class ExitedEarly : public Error {
 public:
  ExitedEarly(const std::string& command, const std::string& text, std::optional<int> exit_code,
              const std::string& output)
      : Error(command, text, output), exit_code_(exit_code) {}
  /// As Executor::exit_code(); none: it still ran.
  std::optional<int> exit_code() const noexcept { return exit_code_; }

 private:
  std::optional<int> exit_code_;
};

/// The command was not ready in Options::timeout.
class StartTimeout : public Error {
 public:
  StartTimeout(const std::string& command, const std::string& text, const std::string& seen,
               const std::string& output)
      : Error(command, text, output), seen_(std::make_shared<const std::string>(seen)) {}
  /// What the last look showed.
  const std::string& seen() const noexcept { return *seen_; }

 private:
  std::shared_ptr<const std::string> seen_;
};

/// The command ended otherwise than expected, or some of its processes are still there.
class StopError : public Error {
 public:
  StopError(const std::string& command, const std::string& text, std::optional<int> exit_code, int unkilled,
            const std::string& output)
      : Error(command, text, output), exit_code_(exit_code), unkilled_(unkilled) {}
  std::optional<int> exit_code() const noexcept { return exit_code_; }
  /// How many processes could not be killed.
  int unkilled() const noexcept { return unkilled_; }

 private:
  std::optional<int> exit_code_;
  int unkilled_;
};

}  // namespace weft::process
