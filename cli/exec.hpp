#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "process/exec.hpp"

namespace weft::engine::cli {

/// `weft exec`: its options, and what is run.
class ExecCommand {
 public:
  explicit ExecCommand(CLI::App& parent);
  ExecCommand(const ExecCommand&) = delete;

  bool chosen() const { return app_.parsed(); }
  /// `words`: all behind the options. Returns the code to exit with.
  int run(const std::vector<std::string>& words);

 private:
  void add_waits();
  void add_requests();
  void add_services();
  CLI::Option* add_text(const char* name, const char* type, const char* help,
                        std::function<void(const std::string&)> take);
  void own(CLI::Option* option) { own_.push_back(option); }
  void ask(CLI::Option* option) {
    own(option);
    asks_.push_back(option);
  }
  void check_waits() const;
  void warn_of_misplaced_waits(const std::vector<std::string>& words) const;

  process::Service service(const std::vector<std::string>& words) const;
  int run_file(const std::vector<std::string>& command);
  int run_words(const std::vector<std::string>& words);

  CLI::App& app_;
  std::vector<CLI::Option*> own_;   // which a file says itself
  std::vector<CLI::Option*> asks_;  // of these, those about a request
  std::vector<std::pair<std::string, std::string>> waits_;
  process::HttpOptions http_;
  process::Options options_ = process::service_options();
  process::ExecOptions exec_;
  std::string file_;
  std::vector<std::string> only_;
  bool any_ = false, check_ = false;
};

}  // namespace weft::engine::cli
