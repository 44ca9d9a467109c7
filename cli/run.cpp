#include "run.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iostream>

#include "interpose/elf/program.hpp"
#include "preloads.hpp"
#include "runtime/settings_environment.hpp"

namespace weft::engine::cli {

namespace {

namespace fs = std::filesystem;

int fail(int code, const std::string& message) {
  std::cerr << "weft run: " << message << "\n";
  return code;
}

// Why the statistics could not be written into `file`, as far as that can be told beforehand, and what to do
// about it; empty if they could. Leaves no file behind: the program may end without statistics.
std::string complaint_of_stats_file(const fs::path& file) {
  const std::string cannot = "the stats file " + file.string() + " cannot be written: ";
  const fs::path folder = file.parent_path();
  // Of a folder whose name has the process's id nothing is known yet.
  if (folder.string().find("%p") != std::string::npos) return {};
  std::error_code ignored;
  if (!file.has_filename() || fs::is_directory(file, ignored))
    return cannot + "it is a directory; name a file in it";
  if (access(file.c_str(), F_OK) == 0) {
    if (access(file.c_str(), W_OK) == 0) return {};
    return cannot + strerror(errno) + "; remove it, or name another file";
  }
  if (access(folder.c_str(), F_OK) != 0 && errno == ENOENT)
    return cannot + "its directory does not exist; mkdir -p " + interpose::elf::shell_words({folder});
  if (!fs::is_directory(folder, ignored) && !ignored)
    return cannot + folder.string() + " is not a directory; name another file";
  if (access(folder.c_str(), W_OK | X_OK) == 0) return {};
  return cannot + strerror(errno) + " in " + folder.string() + "; name a directory that you may write to";
}

}  // namespace

int run(const std::vector<std::string>& command, Settings settings) {
  using interpose::elf::ProgramKind;
  if (!settings.stats_file.empty()) {
    // The program may change its directory before it writes the file.
    settings.stats_file = fs::absolute(settings.stats_file);
    if (const std::string error = complaint_of_stats_file(settings.stats_file); !error.empty())
      return fail(kUsage, error);
  }
  const auto program = interpose::elf::inspect_program(command.front());
  if (!program.runnable())
    return fail(program.kind == ProgramKind::kNotFound ? kNotFound : kCannotRun, program.message);
  std::string error;
  const std::string preload = find_preload(std::string(environment::kPreloadName), error);
  if (preload.empty()) return fail(kOwnFailure, error);

  const std::vector<std::string> variables = environment::with_weft(environ, settings, preload);
  const auto pointers = [](const std::vector<std::string>& strings) {
    std::vector<char*> result;
    for (const std::string& string : strings) result.push_back(const_cast<char*>(string.c_str()));
    result.push_back(nullptr);
    return result;
  };
  const std::string& path = program.chain.front();
  if (settings.verbose) std::cerr << "weft: running " << path << " with " << preload << "\n";
  execve(path.c_str(), pointers(command).data(), pointers(variables).data());
  return fail(kCannotRun, path + ": " + strerror(errno));
}

}  // namespace weft::engine::cli
