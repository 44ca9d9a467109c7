#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "leaks/command/check.hpp"
#include "process/voice.hpp"

namespace weft::engine::cli {

/// `weft leaks`: its options, and what is checked.
class LeaksCommand {
 public:
  explicit LeaksCommand(CLI::App& parent);
  LeaksCommand(const LeaksCommand&) = delete;

  bool chosen() const { return app_.parsed(); }
  /// `command`: all behind "--". Returns the code to exit with.
  int run(const std::vector<std::string>& command);

 private:
  void add_options_of_checks();
  void add_options_of_reports();
  CLI::Option* add_text(const char* name, const char* type, const char* help,
                        std::function<void(const std::string&)> take);
  std::vector<leaks::Target> targets(const std::vector<std::string>& command) const;
  void check_options(const std::vector<leaks::Target>& targets) const;
  void prepare_reports() const;
  void report(const std::vector<leaks::Outcome>& outcomes) const;
  leaks::Outcome check(const leaks::Target& target, const std::string& agent, process::Voice& voice) const;

  CLI::App& app_;
  std::vector<std::string> words_;
  std::vector<CLI::Option*> of_functions_;
  leaks::Request request_;
  CLI::Option* any_exit_ = nullptr;
  std::string json_, junit_, svg_;
  bool quiet_ = false;
};

}  // namespace weft::engine::cli
