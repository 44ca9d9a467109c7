#include "run.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iostream>

#include "interpose/elf/program.hpp"
#include "runtime/settings_environment.hpp"

namespace weft::cli {

namespace {

namespace fs = std::filesystem;

int fail(int code, const std::string& message) {
  std::cerr << "weft run: " << message << "\n";
  return code;
}

// Beside this program, in the build tree or as installed; empty with a complaint in `error`.
std::string find_preload(std::string& error) {
  std::error_code ignored;
  const fs::path here = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  const fs::path places[] = {here.parent_path() / "preload", here.parent_path() / "lib" / "weft"};
  for (const fs::path& place : places) {
    const fs::path library = place / environment::kPreloadName;
    if (!fs::exists(library, ignored)) continue;
    if (library.string().find_first_of(": ") == std::string::npos) return library;
    error = library.string() +
            " cannot be preloaded, since the loader takes a space or colon in its path for the end "
            "of it: move Weft to a folder without";
    return {};
  }
  error = std::string(environment::kPreloadName) + " is neither in " + places[0].string() +
          " (build tree) nor in " + places[1].string() + " (installed): build it, or install Weft again";
  return {};
}

}  // namespace

int run(const std::vector<std::string>& command, Settings settings) {
  using interpose::elf::ProgramKind;
  const auto program = interpose::elf::inspect_program(command.front());
  if (!program.runnable())
    return fail(program.kind == ProgramKind::kNotFound ? kNotFound : kCannotRun, program.message);
  std::string error;
  const std::string preload = find_preload(error);
  if (preload.empty()) return fail(kOwnFailure, error);
  // The program may change its directory before it writes the file.
  if (!settings.stats_file.empty()) settings.stats_file = fs::absolute(settings.stats_file);

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

}  // namespace weft::cli
