// The `weft` program: parses arguments, then calls the library.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <utility>

#include "exec.hpp"
#include "leaks.hpp"
#include "run.hpp"
#include "runtime/doctor.hpp"
#include "runtime/dump.hpp"
#include "runtime/settings_environment.hpp"
#include "usage.hpp"

namespace {

using namespace weft::engine;
using cli::complain;

constexpr const char* kRunFooter =
    "The options end at the first word that is none. Each can also be given as a variable: "
    "WEFT_BACKEND=epoll,\n"
    "WEFT_STATS=1, WEFT_STACK_SIZE=256K. Exit code: the command's own; 2 for a wrong option, 125 when Weft "
    "itself\n"
    "is incomplete, 126 when the command cannot be run under Weft, 127 when it is not found.";

// `weft run`: its options are those of the table of settings.
class RunCommand {
 public:
  explicit RunCommand(CLI::App& parent)
      : app_(*cli::add_command(parent, "run", "weft run [OPTIONS] [--] COMMAND [ARG...]",
                               "Run a command, its threads as fibers")) {
    app_.footer(kRunFooter);
    for (const SettingForm& form : setting_forms()) {
      if (!form.value)
        app_.add_flag_callback(
            form.option, [&] { given_.emplace_back(&form, "1"); }, form.help);
      else
        add_valued(form);
    }
  }

  bool chosen() const { return app_.parsed(); }

  int run(const std::vector<std::string>& command) const {
    Settings settings;
    if (const std::string error = environment::read(settings); !error.empty()) return complain(app_, error);
    for (const auto& [form, value] : given_)
      if (!form->parse(value, settings)) return complain(app_, form->complaint(form->option, value));
    if (command.empty()) return complain(app_, "run: a command is required, as in weft run python3 app.py");
    return cli::run(command, settings);
  }

 private:
  void add_valued(const SettingForm& form) {
    app_.add_option_function<std::string>(
            form.option, [&](const std::string& value) { given_.emplace_back(&form, value); }, form.help)
        ->type_name(form.value);
  }

  CLI::App& app_;
  std::vector<std::pair<const SettingForm*, std::string>> given_;
};

class DoctorCommand {
 public:
  explicit DoctorCommand(CLI::App& parent)
      : app_(*cli::add_command(parent, "doctor", "weft doctor [--json] [--] [COMMAND [ARG...]]",
                               "Tell what Weft finds here, or what it would do to a command")) {
    app_.add_flag("--json", json_, "As JSON");
  }

  bool chosen() const { return app_.parsed(); }

  int run(const std::vector<std::string>& command) const {
    const doctor::Format format = json_ ? doctor::Format::kJson : doctor::Format::kText;
    if (command.empty()) {
      std::cout << doctor::render(doctor::examine_system(), format);
      return 0;
    }
    const doctor::CommandReport report = doctor::examine_command(command);
    std::cout << doctor::render(report, format);
    return report.program.runnable() ? 0 : 1;
  }

 private:
  CLI::App& app_;
  bool json_ = false;
};

class DumpCommand {
 public:
  explicit DumpCommand(CLI::App& parent)
      : app_(*cli::add_command(parent, "dump", "weft dump [--all] PID",
                               "Print the fibers of a program under Weft, and what they wait for")) {
    app_.add_flag("--all", all_, "Each fiber by itself, also those that wait at the same place");
    app_.add_option("PID", pid_, "The process")->required()->check(CLI::Range(1, 1 << 22))->type_name("");
  }

  bool chosen() const { return app_.parsed(); }

  int run() const {
    const std::string error =
        dump::fetch(pid_, STDOUT_FILENO, all_ ? dump::Form::kAll : dump::Form::kGrouped);
    if (error.empty()) return 0;
    std::cerr << "weft dump: " << error << "\n";
    return 1;
  }

 private:
  CLI::App& app_;
  bool all_ = false;
  int pid_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Runs programs with their threads as fibers", "weft");
  cli::set_usage(app, "weft run|exec|leaks|doctor|dump ...");
  app.set_version_flag("--version", "weft " WEFT_VERSION, "Print the version and exit");
  app.set_help_flag("-h,--help", "Print this and exit");
  app.require_subcommand(1);
  RunCommand run(app);
  cli::ExecCommand exec(app);
  cli::LeaksCommand leaks(app);
  DoctorCommand doctor(app);
  DumpCommand dump(app);
  const auto chosen_app = [&]() -> const CLI::App& {
    const auto chosen = app.get_subcommands();
    return chosen.empty() ? app : *chosen.front();
  };
  try {
    std::vector<std::string> arguments = cli::without_help_word({argv + 1, argv + argc});
    if (const std::string wrong = cli::misplaced(app, arguments); !wrong.empty()) return complain(app, wrong);
    const std::vector<std::string> command = cli::split_command(app, arguments);
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    if (run.chosen()) return run.run(command);
    if (exec.chosen()) return exec.run(command);
    if (leaks.chosen()) return leaks.run(command);
    if (doctor.chosen()) return doctor.run(command);
    return dump.run();
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    return complain(chosen_app(), error.what());
  } catch (const std::exception& error) {
    std::cerr << "weft: " << error.what() << "\n";
    return cli::kOwnFailure;
  }
}
