#include "usage.hpp"

#include <iostream>

#include "run.hpp"

namespace weft::cli {

namespace {

class UsageFormatter final : public CLI::Formatter {
 public:
  explicit UsageFormatter(std::string usage) : usage_(std::move(usage)) { column_width(34); }
  std::string make_usage(const CLI::App*, std::string) const override { return "Usage: " + usage_ + "\n"; }

 private:
  std::string usage_;
};

}  // namespace

void set_usage(CLI::App& app, std::string usage) {
  app.formatter(std::make_shared<UsageFormatter>(std::move(usage)));
}

int complain(const CLI::App& app, const std::string& complaint) {
  const auto formatter = std::dynamic_pointer_cast<const CLI::Formatter>(app.get_formatter());
  std::cerr << "weft: " << complaint << "\n" << formatter->make_usage(&app, {}) << "Try --help.\n";
  return kUsage;
}

CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& usage,
                      const std::string& description) {
  CLI::App* command = parent.add_subcommand(name, description);
  set_usage(*command, usage);
  command->set_help_flag("-h,--help", "print this and exit");
  return command;
}

// CLI11's own prefix_command() takes unknown options for the command's name and hands "--" to the parent.
std::vector<std::string> split_command(const CLI::App& app, std::vector<std::string>& arguments) {
  if (arguments.empty()) return {};
  const auto named =
      app.get_subcommands([&](const CLI::App* sub) { return sub->check_name(arguments.front()); });
  if (named.empty()) return {};
  const CLI::App* sub = named.front();
  if (!sub->get_options([](const CLI::Option* option) { return option->get_positional(); }).empty())
    return {};
  size_t end = 1;
  size_t begin = arguments.size();
  for (; end < arguments.size(); ++end) {
    const std::string& word = arguments[end];
    begin = word == "--" ? end + 1 : end;
    if (word == "--" || word.empty() || word[0] != '-' || word == "-") break;
    const CLI::Option* option = word.find('=') == word.npos ? sub->get_option_no_throw(word) : nullptr;
    if (option && option->get_items_expected_min() > 0) ++end;  // its value is the next word
    begin = arguments.size();
  }
  std::vector<std::string> command;
  if (begin < arguments.size())
    command.assign(arguments.begin() + static_cast<ptrdiff_t>(begin), arguments.end());
  if (end < arguments.size()) arguments.resize(end);
  return command;
}

}  // namespace weft::cli
