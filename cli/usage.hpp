#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace weft::engine::cli {

/// Gives `app` its usage line, "weft run [OPTIONS] [--] COMMAND [ARG...]", for --help and complaints.
void set_usage(CLI::App& app, std::string usage);

/// Writes the complaint and how `app` is used to standard error. Returns the exit code for it.
int complain(const CLI::App& app, const std::string& complaint);

/// "help COMMAND" as "COMMAND --help", "help" as "--help"; all else as it is.
std::vector<std::string> without_help_word(std::vector<std::string> arguments);

/// What is wrong with the order of all `arguments`, and the right one: a command without "run" before it, or
/// an option before the subcommand that it belongs to. Empty if it is right, or is not known to be wrong.
std::string misplaced(const CLI::App& app, const std::vector<std::string>& arguments);

/// A subcommand of `parent` with that usage line.
CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& usage,
                      const std::string& description);

/// An option with a value, which may be given again; `take` throws std::invalid_argument for a wrong one.
CLI::Option* add_text(CLI::App& app, const char* name, const char* type, const char* help,
                      std::function<void(const std::string&)> take);

/// Cuts off `arguments` what belongs to another command: all from the first word behind a subcommand's own
/// options, or behind "--". Returns it, untouched. Of a subcommand with arguments of its own, all behind
/// "--", if it can do without them; else nothing.
std::vector<std::string> split_command(const CLI::App& app, std::vector<std::string>& arguments);

}  // namespace weft::engine::cli
