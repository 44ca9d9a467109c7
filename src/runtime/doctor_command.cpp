#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

#include "interpose/calls.hpp"
#include "interpose/elf/base_name.hpp"
#include "interpose/elf/image.hpp"
#include "interpose/elf/mapped_file.hpp"
#include "runtime/doctor_system.hpp"
#include "runtime/launchers.hpp"
#include "runtime/python_version.hpp"

namespace weft::engine::doctor {

namespace {

namespace fs = std::filesystem;
namespace elf = interpose::elf;

// What may block for long; of these, those that are not routed are named.
constexpr std::string_view kBlocking[] = {
    "fclose",       "fflush",   "fgets",   "flock",   "fputs", "fread",      "fscanf",     "fwrite",
    "getc",         "getdelim", "getline", "getpass", "lockf", "mq_receive", "mq_send",    "mq_timedreceive",
    "mq_timedsend", "msgrcv",   "msgsnd",  "pclose",  "popen", "semop",      "semtimedop", "sync",
    "syncfs",       "system",   "tcdrain", "vfscanf",
};

static_assert(std::is_sorted(std::begin(kBlocking), std::end(kBlocking)));

// What the engine's replacements stand on.
bool is_runtime(std::string_view name) {
  return name.starts_with("libc.so") || name.starts_with("ld-linux") || name.starts_with("linux-vdso") ||
         name.starts_with("libpthread.so") || name.starts_with("libweft-preload");
}

class Routes {
 public:
  Routes() {
    for (const interpose::Call& call : interpose::all_calls()) families_.emplace(call.symbol, call.family);
  }
  const interpose::Family* find(std::string_view symbol) const {
    const auto found = families_.find(symbol);
    return found == families_.end() ? nullptr : &found->second;
  }

 private:
  std::map<std::string_view, interpose::Family> families_;
};

// `threads_left`: why the threads that the object creates become no fibers; null where they do.
ObjectReport examine_object(const std::string& path, const char* threads_left, const Routes& routes) {
  ObjectReport report{path};
  const elf::MappedFile file(path);
  const auto image = file.error() ? std::nullopt : elf::Image::of_file(file.bytes(), path);
  if (!image) {
    report.untouched = "it cannot be read";
    return report;
  }
  report.has_tls = image->has_tls();
  if (is_runtime(base_name(path))) {
    report.untouched = "the engine stands on it";
    return report;
  }
  std::map<std::string, elf::Slot> slots;
  image->for_each_slot([&](const elf::Slot& slot) { slots.emplace(slot.symbol, slot); });
  for (const auto& [symbol, slot] : slots) {
    const interpose::Family* family = routes.find(symbol);
    if (!family) {
      if (std::binary_search(std::begin(kBlocking), std::end(kBlocking), symbol))
        report.left.push_back({symbol, "is not routed: where it blocks, it blocks its carrier (a pin)"});
    } else if (slot.defined) {
      report.left.push_back({symbol, "the object has its own function of that name"});
    } else if (symbol == "pthread_create" && threads_left) {
      report.left.push_back({symbol, threads_left});
    } else {
      report.routed.push_back({symbol, to_string(*family)});
    }
  }
  return report;
}

struct Libraries {
  std::vector<std::string> found;
  std::vector<std::string> missing;
};

// As ldd: the dynamic linker, run as a program, lists what it would load. It runs nothing of what it lists.
Libraries find_libraries(const elf::Program& program) {
  Libraries libraries;
  std::istringstream lines(output_of({program.loader, "--list", program.path}));
  // "\tlibz.so.1 => /lib/libz.so.1 (0x7f...)", "\tlibq.so => not found", "\t/lib64/ld-linux-x86-64.so.2
  // (0x7f...)"
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with('\t')) continue;
    const size_t arrow = line.find(" => ");
    const std::string name = line.substr(1, std::min(arrow, line.find(" (")) - 1);
    std::string path = arrow == line.npos ? name : line.substr(arrow + 4);
    path.resize(std::min(path.find(" ("), path.size()));
    if (path == "not found")
      libraries.missing.push_back(name);
    else if (path.starts_with('/'))
      libraries.found.push_back(path);
  }
  return libraries;
}

// A Python's own extension modules: PREFIX/lib/python3.12/lib-dynload for PREFIX/bin/python3.12.
std::vector<std::string> standard_extensions(const elf::Program& program) {
  std::vector<std::string> result;
  std::error_code error;
  const fs::path path = fs::canonical(program.path, error);
  const fs::path folder = path.parent_path().parent_path() / "lib" / path.filename() / "lib-dynload";
  for (const auto& file : fs::directory_iterator(folder, error))
    if (file.path().extension() == ".so") result.push_back(file.path());
  std::sort(result.begin(), result.end());
  return result;
}

// The executable is python3.12 behind whatever links lead to it; one that embeds it needs a libpython3.12.
void find_version(CommandReport& report) {
  const elf::Program& program = report.program;
  if (!program.python) return;
  std::error_code error;
  const fs::path path = fs::canonical(program.path, error);
  report.python_version = python_version_in(error ? program.path : path.string());
  for (const std::string& library : program.needed)
    if (report.python_version.empty()) report.python_version = python_version_in(library);
  report.python_supported = report.python_version.empty() || python_is_supported(report.python_version);
}

}  // namespace

CommandReport examine_command(const std::vector<std::string>& command) {
  CommandReport report;
  report.command = command;
  report.program = elf::inspect_program(command.front());
  report.reloader = find_reloader(command, getenv("FLASK_DEBUG"));
  const elf::Program& program = report.program;
  if (!program.runnable()) return report;

  find_version(report);
  std::error_code error;
  const auto known = program.python ? &is_launcher_with_python : &is_launcher;
  report.launcher =
      known(base_name(program.path)) || known(fs::canonical(program.path, error).filename().string());

  const Routes routes;
  Libraries libraries = find_libraries(program);
  report.missing = std::move(libraries.missing);
  const bool shared =
      std::any_of(libraries.found.begin(), libraries.found.end(),
                  [](const std::string& path) { return base_name(path).starts_with("libpython"); });
  const auto threads_left = [&](bool interpreter) -> const char* {
    if (!interpreter) return "its own threads stay OS threads, unless --threads=all";
    return report.python_supported ? nullptr : "its threads stay OS threads: this Python is not supported";
  };
  report.objects.push_back(examine_object(program.path, threads_left(program.python && !shared), routes));
  for (const std::string& path : libraries.found)
    report.objects.push_back(
        examine_object(path, threads_left(base_name(path).starts_with("libpython")), routes));
  if (program.python)
    for (const std::string& path : standard_extensions(program))
      report.objects.push_back(examine_object(path, threads_left(false), routes));
  return report;
}

}  // namespace weft::engine::doctor
