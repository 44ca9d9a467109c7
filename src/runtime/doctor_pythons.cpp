#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <sstream>

#include "runtime/doctor_system.hpp"
#include "runtime/python_version.hpp"

namespace weft::engine::doctor {

namespace {

namespace fs = std::filesystem;

// "python3" or "python3.12"; not python3-config, python3.12-gdb.py, python3m.
bool is_python_name(std::string_view name) {
  constexpr std::string_view kStem = "python3";
  if (!name.starts_with(kStem)) return false;
  name.remove_prefix(kStem.size());
  return name.empty() ||
         (name.size() > 1 && name[0] == '.' && name.find_first_not_of("0123456789", 1) == name.npos);
}

std::vector<fs::path> directories() {
  std::vector<fs::path> result;
  const char* path = getenv("PATH");
  std::istringstream elements(path ? path : "");
  for (std::string element; std::getline(elements, element, ':');)
    result.push_back(element.empty() ? "." : element);
  for (const char* usual : {"/usr/bin", "/usr/local/bin"}) result.push_back(usual);
  const char* pyenv = getenv("PYENV_ROOT");
  const char* home = getenv("HOME");
  const fs::path versions =
      (pyenv ? fs::path(pyenv) : fs::path(home ? home : "/root") / ".pyenv") / "versions";
  std::error_code error;
  std::vector<fs::path> found;
  for (const auto& version : fs::directory_iterator(versions, error)) found.push_back(version.path() / "bin");
  std::sort(found.begin(), found.end());
  result.insert(result.end(), found.begin(), found.end());
  return result;
}

// "Python 3.12.1\n"
std::string version_of(const std::string& path) {
  const std::string output = output_of({path, "-V"});
  constexpr std::string_view kBegin = "Python ";
  if (!output.starts_with(kBegin)) return {};
  return output.substr(kBegin.size(), output.find_first_of("\r\n") - kBegin.size());
}

}  // namespace

std::vector<PythonFound> find_pythons() {
  std::vector<PythonFound> pythons;
  std::set<std::string> seen;
  std::error_code error;
  for (const fs::path& directory : directories()) {
    std::vector<fs::path> candidates;
    for (const auto& file : fs::directory_iterator(directory, error))
      if (is_python_name(file.path().filename().string())) candidates.push_back(file.path());
    std::sort(candidates.begin(), candidates.end());
    for (const fs::path& candidate : candidates) {
      const std::string path = fs::canonical(candidate, error);
      if (error || !seen.insert(path).second) continue;
      const auto program = interpose::elf::inspect_program(path);
      // Wrappers lead to an interpreter elsewhere; only interpreters themselves are listed.
      if (!program.python || program.chain.size() != 1) continue;
      PythonFound python{path, version_of(path)};
      python.shared = std::any_of(program.needed.begin(), program.needed.end(),
                                  [](const std::string& needed) { return needed.starts_with("libpython"); });
      python.supported = program.runnable() && python_is_supported(python.version);
      pythons.push_back(std::move(python));
    }
  }
  return pythons;
}

std::string find_python3_version() {
  const auto program = interpose::elf::inspect_program("python3");
  return program.chain.empty() ? std::string() : version_of(program.chain.front());
}

}  // namespace weft::engine::doctor
