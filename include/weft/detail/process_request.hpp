// From Options to a detail::ChildRequest, and from failures to words. Promises nothing to programs.
#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "weft/process/command.hpp"
#include "weft/process/detail.hpp"
#include "weft/process/options.hpp"

namespace weft::process::detail {

/// Throws std::invalid_argument for the first that is wrong.
inline void check_options(const Options& options) {
  const auto require = [](bool good, const std::string& name, const std::string& value,
                          const char* expected) {
    if (!good)
      throw std::invalid_argument("weft::process: Options::" + name + " is " + value + "; expected " +
                                  expected);
  };
  const auto require_span = [&](const char* name, std::chrono::nanoseconds span) {
    require(span.count() >= 0, name, std::to_string(span.count()) + " ns", "no negative time");
  };
  const auto require_text = [&](const std::string& name, const std::string& text) {
    require(text.find('\0') == std::string::npos, name, "'" + std::string(text.c_str()) + "' and a NUL",
            "text without");
  };
  require_span("timeout", options.timeout);
  require_span("grace", options.grace);
  require_span("probe_interval", options.probe_interval);
  for (const auto& [name, number] :
       {std::pair("stop_signal", options.stop_signal), std::pair("kill_signal", options.kill_signal)})
    require(number >= 1 && number <= SIGRTMAX, name, std::to_string(number), "a signal, such as SIGTERM");
  require_text("cwd", options.cwd);
  for (const auto& [name, value] : options.environment) {
    require(!name.empty() && name.find('=') == std::string::npos, "environment", "for '" + name + "'",
            "names that are not empty and have no =");
    require_text("environment", name);
    if (value) require_text("environment['" + name + "']", *value);
  }
  const std::pair<const char*, int> streams[] = {{"standard_input", options.standard_input.value()},
                                                 {"standard_output", options.standard_output.value()},
                                                 {"standard_error", options.standard_error.value()}};
  for (const auto& [name, to] : streams) {
    require(to >= kToOutput, name, "descriptor " + std::to_string(to), "an open one, or another StreamTo");
    require(to != kToOutput || name == streams[2].first, name, "merged()", "that for standard_error only");
  }
  require(options.passed.size() <= 200, "passed", std::to_string(options.passed.size()) + " descriptors",
          "200 at most");
  for (size_t i = 0; i < options.passed.size(); ++i) {
    const auto [source, target] = options.passed[i];
    require(source >= 0, "passed", "descriptor " + std::to_string(source), "an open one");
    require(target >= 3, "passed", "to be " + std::to_string(target) + " in the command",
            "3 or more: the standard streams have their own options");
    for (size_t j = 0; j < i; ++j)
      require(options.passed[j].target != target, "passed", "twice to be " + std::to_string(target),
              "different ones");
  }
  require(options.limits.size() <= 16, "limits", std::to_string(options.limits.size()) + " limits",
          "16 at most");
  require(!options.groups || options.groups->size() <= 64, "groups", "more than 64", "64 at most");
}

/// A ChildRequest, and the memory that it borrows.
class Request {
 public:
  Request(const std::vector<std::string>& arguments, const Options& options) {
    for (const std::string& argument : arguments) arguments_.push_back(argument.c_str());
    arguments_.push_back(nullptr);
    if (!options.clear_environment)
      for (char** variable = environ; variable && *variable; ++variable) {
        const std::string text = *variable;
        if (!options.environment.contains(text.substr(0, text.find('=')))) variables_.push_back(text);
      }
    for (const auto& [name, value] : options.environment)
      if (value) variables_.push_back(name + "=" + *value);
    for (const std::string& variable : variables_) environment_.push_back(variable.c_str());
    environment_.push_back(nullptr);
    for (const PassedDescriptor& passed : options.passed) {
      passed_.push_back(passed.source);
      targets_.push_back(passed.target);
    }
    for (const Limit& limit : options.limits) limits_.push_back({limit.resource, limit.soft, limit.hard});

    request_.file = arguments_.front();
    request_.arguments = arguments_.data();
    request_.environment = environment_.data();
    request_.folder = options.cwd.empty() ? nullptr : options.cwd.c_str();
    request_.streams[0] = options.standard_input.value();
    request_.streams[1] = options.standard_output.value();
    request_.streams[2] = options.standard_error.value();
    request_.passed = passed_.data();
    request_.targets = targets_.data();
    request_.passed_count = passed_.size();
    request_.limits = limits_.data();
    request_.limit_count = limits_.size();
    if (options.groups) {
      request_.groups = options.groups->data() ? options.groups->data() : &kNoGroup;
      request_.group_count = options.groups->size();
    }
    if (options.user) request_.user = *options.user;
    if (options.group) request_.group = *options.group;
    if (options.umask) request_.mask = *options.umask;
    request_.nice = options.nice;
    request_.kept_output = options.kept_output;
  }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  const ChildRequest& get() const noexcept { return request_; }

 private:
  static constexpr gid_t kNoGroup = 0;  // null would be the program's groups

  ChildRequest request_;
  std::vector<const char*> arguments_, environment_;
  std::vector<std::string> variables_;
  std::vector<int> passed_, targets_;
  std::vector<ChildLimit> limits_;
};

inline int exit_code_of(int status) noexcept {
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

inline std::string describe_exit(int code) {
  if (code >= 0) return "exited with " + std::to_string(code);
  const char* const name = sigabbrev_np(-code);
  return "was ended by signal " + std::to_string(-code) + (name ? std::string(" (SIG") + name + ")" : "");
}

inline std::string describe_span(Nanos span) {
  char text[64];
  snprintf(text, sizeof text, "%.3g s", static_cast<double>(span) / 1e9);
  return text;
}

/// What was not to be done, and what to do about it.
inline std::string describe(const ChildFailure& failure, const std::vector<std::string>& words,
                            const Options& options) {
  const std::string why = std::system_category().message(failure.error);
  const auto text = [&](const std::string& what, const std::string& advice) {
    return "could not be started: " + what + ": " + why + (advice.empty() ? "" : ". " + advice);
  };
  switch (failure.stage) {
    case ChildStage::kKeeper:
      return text("weft-keeper, which starts commands",
                  failure.error == ENOENT
                      ? "It is neither beside the library nor in WEFT_KEEPER: build it, or install Weft again"
                      : "");
    case ChildStage::kOrder:
      return text("what weft-keeper is told",
                  failure.error == EPROTO ? "It is of another version: install Weft again" : "");
    case ChildStage::kDescriptors:
      return text("its descriptors", failure.error == EMFILE ? "Raise the limit (ulimit -n)"
                                     : failure.error == EBADF
                                         ? "One of Options::passed, or a StreamTo::descriptor(), is not open"
                                         : "");
    case ChildStage::kIdentity:
      return text("user, group or groups", "Only root may change them");
    case ChildStage::kLimits:
      return text("Options::limits, or nice", "Only root may raise them");
    case ChildStage::kFolder:
      return text("Options::cwd '" + options.cwd + "'", "");
    default:
      break;
  }
  const std::string file = "'" + words.front() + "'";
  if (failure.error == EACCES) return text(file, "Is it executable?");
  if (failure.error != ENOENT) return text(file, "");
  const std::string word = shell_word(words);
  return text(
      file, "It, or the interpreter in its first line, is not there, nor in a folder of PATH" +
                (word.empty() ? std::string()
                              : ". If '" + word +
                                    "' was meant for a shell: one text with Options::shell, or sh -c '...'"));
}

}  // namespace weft::process::detail
