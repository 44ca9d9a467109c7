#include <algorithm>
#include <filesystem>

#include "interpose/elf/base_name.hpp"
#include "runtime/doctor.hpp"
#include "runtime/python_version.hpp"

namespace weft::engine::doctor {

namespace {

Verdict judge_program(const CommandReport& report) {
  const interpose::elf::Program& program = report.program;
  if (report.launcher) {
    const std::string name(base_name(program.path));
    const std::string what = program.chain.size() > 1
                                 ? program.chain.front() + " is a " + name +
                                       " script, so it cannot be told beforehand what it starts"
                                 : name + " only starts another program";
    return {Level::kUnknown, what + ". The first Python on the way will run under Weft: weft run --verbose " +
                                 interpose::elf::shell_words(report.command) + " names it"};
  }
  if (!program.python) {
    return {
        Level::kWarning,
        program.path +
            " is no Python interpreter, so its threads stay OS threads: weft run --threads=all makes them "
            "fibers. A Python that it starts runs under Weft"};
  }
  const std::string python = "Python" + (report.python_version.empty() ? "" : " " + report.python_version);
  if (!report.python_supported)
    return {Level::kWarning,
            python + " " + std::string(kPythonUnsupported) + ". weft doctor lists the Pythons here"};
  return {Level::kOk, program.path + " is " + python + ", whose threads become fibers under weft run"};
}

}  // namespace

Verdict judge(const SystemReport& report) {
  if (!report.backend) return {Level::kError, "Weft cannot run here: " + report.backend_why};
  const auto supported = std::find_if(report.pythons.begin(), report.pythons.end(),
                                      [](const PythonFound& python) { return python.supported; });
  if (supported == report.pythons.end()) {
    return {Level::kWarning,
            "Weft works here, but finds no Python that it supports: install 3.11, 3.12 or 3.13"};
  }
  const std::string by_path = "weft run " + interpose::elf::shell_words({supported->path}) + " app.py";
  if (!report.python3_version.empty() && !python_is_supported(report.python3_version)) {
    return {Level::kWarning, "Weft works here, but python3 is Python " + report.python3_version +
                                 ", which it does not support: name another, as in " + by_path};
  }
  std::string text =
      "Weft works here: " + (report.python3_version.empty() ? by_path : "weft run python3 app.py");
  std::string low;
  for (const Limit& limit : report.limits)
    if (limit.bites) low += (low.empty() ? "" : ", ") + limit.name;
  if (!low.empty())
    text += ". Before you run very many threads or connections, lift " + low + " (see Limits)";
  return {Level::kOk, text};
}

std::vector<Verdict> judge(const CommandReport& report) {
  if (!report.program.runnable())
    return {{Level::kError, "cannot run under Weft: " + report.program.message}};
  std::vector<Verdict> verdicts = {judge_program(report)};
  if (report.reloader)
    verdicts.push_back({Level::kWarning, report.reloader->name + ": " + report.reloader->advice});
  for (const std::string& library : report.missing)
    verdicts.push_back({Level::kWarning, "the library " + library + " is not found: install it"});
  std::stable_sort(verdicts.begin(), verdicts.end(),
                   [](const Verdict& a, const Verdict& b) { return a.level > b.level; });
  return verdicts;
}

}  // namespace weft::engine::doctor
