#include "exec.hpp"

#include <algorithm>
#include <filesystem>
#include <iostream>

#include "process/stack.hpp"
#include "run.hpp"
#include "usage.hpp"

namespace weft::engine::cli {

namespace {

constexpr const char* kUsageLine = "weft exec [OPTIONS] [--] SERVICE [ARG...] [-- COMMAND [ARG...]]";

constexpr const char* kFooter =
    "Or: weft exec [OPTIONS] --file STACK.toml [--] [COMMAND [ARG...]]\n"
    "\n"
    "Starts the service, waits until it is ready, runs the command, stops the service and all that descends "
    "from\n"
    "it. Without a command the service runs until it ends, or a signal comes. The options end at the first "
    "word\n"
    "that is none, the service at the next \"--\".\n"
    "\n"
    "Exit code: the command's own, or 128+n when signal n ended it; 2 for wrong usage or a wrong file, 125 "
    "when a\n"
    "service did not become ready or Weft itself failed, 126 when the command cannot be executed, 127 when "
    "it "
    "is\n"
    "not found. Without a command: the service's own; with several, of the first that failed.\n"
    "\n"
    "SIGINT, SIGTERM, SIGHUP and SIGQUIT go to the command; then the services are stopped. A second one "
    "while\n"
    "they are skips the grace.\n"
    "\n"
    "Examples:\n"
    "  weft exec --wait-port 8000 -- ./server --port 8000 -- ./run-tests -v\n"
    "  weft exec --wait-http http://127.0.0.1:8000/health --timeout 60 -- ./server -- pytest\n"
    "  weft exec --wait-output 'listening on' --show-output -- ./server\n"
    "  weft exec --file stack.toml -- ./run-tests\n"
    "  weft exec --file stack.toml --only db --check";

}  // namespace

ExecCommand::ExecCommand(CLI::App& parent)
    : app_(*add_command(parent, "exec", kUsageLine, "Run a command while services are ready for it")) {
  app_.footer(kFooter);
  add_waits();
  add_requests();
  add_services();
}

CLI::Option* ExecCommand::add_text(const char* name, const char* type, const char* help,
                                   std::function<void(const std::string&)> take) {
  return cli::add_text(app_, name, type, help, std::move(take));
}

void ExecCommand::add_waits() {
  const auto add = [&](const char* name, const char* type, const char* help) {
    own(add_text(name, type, help, [this, kind = std::string(name)](const std::string& value) {
      waits_.emplace_back(kind, value);
    }));
  };
  add("--wait-port", "[HOST:]PORT", "Ready when it accepts TCP connections there");
  add("--wait-http", "URL", "Ready when it answers a request with a status of 200 to 299");
  add("--wait-output", "REGEX", "Ready when it has written a line that matches");
  add("--wait-file", "PATH", "Ready when there is such a file");
  add("--wait-socket", "PATH", "Ready when it accepts connections at a Unix socket");
  own(app_.add_flag("--any", any_, "One of the --wait-... is enough, instead of all"));
  add_text("--timeout", "SECONDS", "For becoming ready (30)",
           [&](const std::string& value) { options_.timeout = process::parse_seconds(value); });
}

void ExecCommand::add_requests() {
  ask(add_text("--status", "PATTERN", "With --wait-http: the status is to match, as in '^(2..|404)$'",
               [&](const std::string& value) { http_.status = value; }));
  ask(add_text("--method", "METHOD", "With --wait-http: instead of GET",
               [&](const std::string& value) { http_.method = value; }));
  ask(add_text("--header", "'NAME: VALUE'", "With --wait-http: sent along; may be given again",
               [&](const std::string& value) { http_.headers.push_back(process::parse_header(value)); }));
  ask(app_.add_flag_callback(
      "--insecure", [&] { http_.verify = false; }, "With --wait-http: any certificate will do"));
  ask(add_text("--ca-file", "FILE", "With --wait-http: whom to believe certificates, instead of the system's",
               [&](const std::string& value) { http_.ca_file = value; }));
  ask(app_.add_flag("--follow", http_.follow_redirects, "With --wait-http: go where a redirection leads"));
}

void ExecCommand::add_services() {
  add_text("--grace", "SECONDS", "For stopping, before SIGKILL (10)",
           [&](const std::string& value) { options_.grace = exec_.grace = process::parse_seconds(value); });
  add_text("--stop-signal", "SIGNAL", "By name or number, what stops a service (TERM)",
           [&](const std::string& value) { options_.stop_signal = process::parse_signal(value); });
  own(add_text(
      "--env", "NAME=VALUE", "A variable of the service; may be given again",
      [&](const std::string& value) { options_.environment.insert(process::parse_variable(value)); }));
  own(add_text("--cwd", "DIR", "The service's working directory",
               [&](const std::string& value) { options_.cwd = value; }));
  app_.add_flag("--quiet", exec_.voice.quiet, "Say nothing but failures");
  app_.add_flag("--show-output", exec_.voice.show_output,
                "What services write goes to standard error, each line behind the service's name");
  add_text("--log", "FILE", "The same into a file, which is begun anew",
           [&](const std::string& value) { exec_.voice.log_file = value; });
  add_text("--file", "STACK.toml", "The services are those of this file",
           [&](const std::string& value) { file_ = value; });
  add_text("--only", "NAME", "With --file: this service, and what it comes after; may be given again",
           [&](const std::string& value) { only_.push_back(value); });
  app_.add_flag("--check", check_,
                "With --file: only check it, print the order of the services, and run nothing");
}

void ExecCommand::check_waits() const {
  const bool asks =
      std::any_of(waits_.begin(), waits_.end(), [](const auto& wait) { return wait.first == "--wait-http"; });
  for (const CLI::Option* option : asks_)
    if (option->count() > 0 && !asks)
      throw std::invalid_argument(option->get_name() + " is for --wait-http URL, which is not given");
  if (any_ && waits_.empty())
    throw std::invalid_argument("--any is for several --wait-..., and none is given");
}

// They are the service's then, which may even know them.
void ExecCommand::warn_of_misplaced_waits(const std::vector<std::string>& words) const {
  if (exec_.voice.quiet) return;
  for (const std::string& word : words)
    for (const CLI::Option* option : own_)
      if (const std::string name = option->get_name();
          name.starts_with("--wait-") && (word == name || word.starts_with(name + "="))) {
        std::cerr << "weft exec: " << name << " stands behind " << words.front()
                  << ", so it is that one's; options of weft exec come before the service\n";
        return;
      }
}

process::Service ExecCommand::service(const std::vector<std::string>& words) const {
  check_waits();
  warn_of_misplaced_waits(words);
  process::Service service;
  service.name = std::filesystem::path(words.front()).filename();
  service.command = process::Command(words);
  service.options = options_;
  std::vector<process::Readiness> parts;
  for (const auto& [kind, value] : waits_)
    parts.push_back(process::parse_readiness(kind.substr(2), value, http_));
  service.readiness = process::join_readiness(std::move(parts), any_);
  process::Executor(service.command, service.options, service.readiness);  // throws what is wrong
  return service;
}

int ExecCommand::run_words(const std::vector<std::string>& words) {
  if (!only_.empty() || check_) return complain(app_, "exec: --only and --check are for --file");
  const auto border = std::find(words.begin(), words.end(), "--");
  if (border == words.begin())
    return complain(app_,
                    "exec: a service is required, as in weft exec --wait-port 8000 -- ./server -- ./tests");
  if (border != words.end() && border + 1 == words.end())
    return complain(app_, "exec: a command is required behind the second --");
  if (border != words.end()) exec_.command.assign(border + 1, words.end());
  exec_.services.push_back(service({words.begin(), border}));
  return process::run_services(std::move(exec_));
}

int ExecCommand::run_file(const std::vector<std::string>& command) {
  for (const CLI::Option* option : own_)
    if (option->count() > 0)
      return complain(app_, "exec: " + option->get_name() +
                                " is for a service on the command line; with --file, "
                                "write it into the file");
  std::vector<process::Service> services = process::read_stack(file_, {options_});
  if (!only_.empty()) services = process::select_services(services, only_);
  if (check_) {
    std::cout << process::describe_order(services);
    return 0;
  }
  exec_.services = std::move(services);
  exec_.command = command;
  return process::run_services(std::move(exec_));
}

int ExecCommand::run(const std::vector<std::string>& words) {
  try {
    return file_.empty() ? run_words(words) : run_file(words);
  } catch (const process::StackError& error) {
    std::cerr << "weft exec: " << error.what() << "\n";
    return kUsage;
  } catch (const std::invalid_argument& error) {
    return complain(app_, "exec: " + process::for_users(error.what()));
  } catch (const std::exception& error) {
    std::cerr << "weft exec: " << process::for_users(error.what()) << "\n";
    return kOwnFailure;
  }
}

}  // namespace weft::engine::cli
