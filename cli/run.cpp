#include "run.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iostream>

#include "interpose/elf/program.hpp"
#include "runtime/settings_environment.hpp"

namespace weft::engine::cli {

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
  std::vector<fs::path> places = {here.parent_path() / "preload", here.parent_path() / "lib" / "weft",
                                  here.parent_path() / "weft" / "lib"};
  // Of the Python package: beside that, whichever Python it was installed for.
  for (const auto& folder : fs::directory_iterator(here.parent_path() / "lib", ignored))
    if (folder.path().filename().string().starts_with("python3"))
      for (const char* packages : {"site-packages", "dist-packages"})
        places.push_back(folder.path() / packages / "weft" / "lib");
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
  const std::string preload = find_preload(error);
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
