#include "usage.hpp"

#include <algorithm>
#include <iostream>

#include "interpose/elf/program.hpp"
#include "process/service.hpp"
#include "run.hpp"

namespace weft::engine::cli {

namespace {

class UsageFormatter final : public CLI::Formatter {
 public:
  explicit UsageFormatter(std::string usage) : usage_(std::move(usage)) { column_width(34); }
  std::string make_usage(const CLI::App*, std::string) const override { return "Usage: " + usage_ + "\n"; }

 private:
  std::string usage_;
};

bool is_option(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && word != "--";
}

const CLI::Option* find_option(const CLI::App& app, const std::string& word) {
  return app.get_option_no_throw(word.substr(0, word.find('=')));
}

// Behind the options of `sub`, and their values, that begin at `begin`: the first word that is none.
size_t end_of_options(const CLI::App& sub, const std::vector<std::string>& words, size_t begin) {
  size_t end = begin;
  while (end < words.size() && is_option(words[end])) {
    const CLI::Option* option =
        words[end].find('=') == std::string::npos ? find_option(sub, words[end]) : nullptr;
    end += option && option->get_items_expected_min() > 0 ? 2 : 1;  // its value is the next word
  }
  return std::min(end, words.size());
}

const CLI::App* find_subcommand(const CLI::App& app, const std::string& name) {
  const auto named = app.get_subcommands([&](const CLI::App* sub) { return sub->check_name(name); });
  return named.empty() ? nullptr : named.front();
}

// How to run `command` under Weft, as one types it; empty where there is no program of that name.
std::string how_to_run(const std::vector<std::string>& command) {
  const auto program = interpose::elf::inspect_program(command.front());
  if (program.kind == interpose::elf::ProgramKind::kNotFound && program.advice.empty()) return {};
  std::vector<std::string> words = {"weft", "run"};
  if (program.advice.empty())
    words.push_back(command.front());
  else
    words.insert(words.end(), program.advice.begin(), program.advice.end());
  words.insert(words.end(), command.begin() + 1, command.end());
  return interpose::elf::shell_words(words);
}

std::string misplaced_options(const CLI::App& app, const std::vector<std::string>& arguments) {
  if (find_option(app, arguments.front())) return {};
  const auto owners = app.get_subcommands(
      [&](const CLI::App* sub) { return find_option(*sub, arguments.front()) != nullptr; });
  if (owners.empty()) return {};
  // Which one is meant: that whose name stands behind its options.
  const CLI::App* meant = owners.front();
  bool named = false;
  for (const CLI::App* owner : owners) {
    const size_t behind = end_of_options(*owner, arguments, 0);
    const CLI::App* sub = behind < arguments.size() ? find_subcommand(app, arguments[behind]) : nullptr;
    if (sub && sub != owner && !find_option(*sub, arguments.front())) return {};
    if (sub == owner) meant = owner;
    named |= sub == owner;
  }
  const auto end = arguments.begin() + static_cast<ptrdiff_t>(end_of_options(*meant, arguments, 0));
  std::vector<std::string> words = {"weft", meant->get_name()};
  words.insert(words.end(), arguments.begin(), end);
  words.insert(words.end(), named ? end + 1 : end, arguments.end());
  return arguments.front() + " belongs behind " + words[1] + ": " + interpose::elf::shell_words(words);
}

}  // namespace

void set_usage(CLI::App& app, std::string usage) {
  app.formatter(std::make_shared<UsageFormatter>(std::move(usage)));
}

int complain(const CLI::App& app, const std::string& complaint) {
  const auto formatter = std::dynamic_pointer_cast<const CLI::Formatter>(app.get_formatter());
  std::string usage = formatter->make_usage(&app, {});
  usage.pop_back();  // its end of line
  std::cerr << "weft: " << complaint << "\n" << usage << " (try --help)\n";
  return kUsage;
}

std::string misplaced(const CLI::App& app, const std::vector<std::string>& arguments) {
  if (arguments.empty()) return "say what to do, as in weft run python3 app.py";
  const std::string& first = arguments.front();
  if (is_option(first)) return misplaced_options(app, arguments);
  if (first.empty() || find_subcommand(app, first)) return {};
  const std::string how = how_to_run(arguments);
  return first + " is none of run, exec, leaks, doctor and dump" + (how.empty() ? "" : "; to run it: " + how);
}

std::vector<std::string> without_help_word(std::vector<std::string> arguments) {
  if (arguments.empty() || arguments.front() != "help") return arguments;
  arguments.erase(arguments.begin());
  if (arguments.size() <= 1) arguments.push_back("--help");
  return arguments;
}

CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& usage,
                      const std::string& description) {
  CLI::App* command = parent.add_subcommand(name, description);
  set_usage(*command, usage);
  command->set_help_flag("-h,--help", "print this and exit");
  return command;
}

CLI::Option* add_text(CLI::App& app, const char* name, const char* type, const char* help,
                      std::function<void(const std::string&)> take) {
  const std::string option = name;
  const auto checked = [option, take = std::move(take)](const std::vector<std::string>& values) {
    for (const std::string& value : values) try {
        take(value);
      } catch (const std::invalid_argument& error) {
        throw CLI::ValidationError(option, process::for_users(error.what()));
      }
    return true;
  };
  return app.add_option_function<std::vector<std::string>>(name, checked, help)
      ->type_name(type)
      ->allow_extra_args(false)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

// CLI11's own prefix_command() takes unknown options for the command's name and hands "--" to the parent.
std::vector<std::string> split_command(const CLI::App& app, std::vector<std::string>& arguments) {
  if (arguments.empty()) return {};
  const CLI::App* sub = find_subcommand(app, arguments.front());
  if (!sub) return {};
  const auto own = sub->get_options([](const CLI::Option* option) { return option->get_positional(); });
  if (!own.empty() && own.front()->get_required()) return {};
  const size_t end =
      own.empty()
          ? end_of_options(*sub, arguments, 1)
          : static_cast<size_t>(std::find(arguments.begin(), arguments.end(), "--") - arguments.begin());
  const size_t begin = end < arguments.size() && arguments[end] == "--" ? end + 1 : end;
  std::vector<std::string> command;
  if (begin < arguments.size())
    command.assign(arguments.begin() + static_cast<ptrdiff_t>(begin), arguments.end());
  arguments.resize(end);
  return command;
}

}  // namespace weft::engine::cli
