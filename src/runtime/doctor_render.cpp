#include <map>
#include <nlohmann/json.hpp>

#include "runtime/doctor.hpp"
#include "runtime/python_version.hpp"

namespace weft::engine::doctor {

namespace {

using Json = nlohmann::ordered_json;

std::string line(std::string_view name, const std::string& value) {
  std::string text = "  " + std::string(name);
  text.resize(std::max<size_t>(text.size() + 1, 24), ' ');
  return text + value + "\n";
}

const char* to_string(GuardKind kind) {
  return kind == GuardKind::kAdvice ? "madvise" : "mprotect";
}

std::string explain(GuardKind kind) {
  return kind == GuardKind::kAdvice ? "below each stack, by MADV_GUARD_INSTALL: they cost no mappings"
                                    : "below each stack, by mprotect, since this kernel has no "
                                      "MADV_GUARD_INSTALL (Linux 6.13): each "
                                      "takes two mappings";
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

const char* to_string(Level level) {
  constexpr const char* kNames[] = {"OK", "UNKNOWN", "WARNING", "ERROR"};
  return kNames[static_cast<int>(level)];
}

std::string to_text(const Verdict& verdict) {
  return std::string(to_string(verdict.level)) + ": " + verdict.text + "\n";
}

Json to_json(const Verdict& verdict) {
  return {{"level", to_string(verdict.level)}, {"text", verdict.text}};
}

std::string dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json to_json(const IoUring& io_uring) {
  Json json = {{"available", io_uring.available}, {"features", io_uring.features}};
  if (!io_uring.available) {
    json["why"] = io_uring.why;
    json["remedy"] = io_uring.remedy;
  }
  return json;
}

Json to_json(const SystemReport& report) {
  Json pythons = Json::array(), limits = Json::array();
  for (const PythonFound& python : report.pythons)
    pythons.push_back({{"path", python.path},
                       {"version", python.version},
                       {"shared", python.shared},
                       {"supported", python.supported}});
  for (const Limit& limit : report.limits)
    limits.push_back({{"name", limit.name},
                      {"value", limit.value},
                      {"bites", limit.bites},
                      {"meaning", limit.meaning},
                      {"remedy", limit.remedy}});
  return {{"verdicts", Json::array({to_json(judge(report))})},
          {"kernel", report.kernel},
          {"glibc", report.glibc},
          {"io_uring", to_json(report.io_uring)},
          {"backend",
           {{"auto", report.backend ? Json(weft::engine::to_string(*report.backend)) : Json()},
            {"why", report.backend_why}}},
          {"guard_pages", to_string(report.guards)},
          {"fsgsbase", report.fsgsbase},
          {"pythons", pythons},
          {"python3_version", report.python3_version.empty() ? Json() : Json(report.python3_version)},
          {"limits", limits}};
}

std::string to_text(const SystemReport& report) {
  std::string text = to_text(judge(report)) + "\nSystem\n";
  text += line("kernel", report.kernel);
  text += line("glibc", report.glibc);
  text += line("io_uring", report.io_uring.available ? "yes: " + joined(report.io_uring.features)
                                                     : "no: " + report.io_uring.why);
  if (!report.io_uring.remedy.empty()) text += line("", "lift it with: " + report.io_uring.remedy);
  text += line("backend", report.backend_why);
  text += line("guard pages", explain(report.guards));
  text +=
      line("FSGSBASE", report.fsgsbase ? "yes" : "no: fibers cannot have thread control blocks of their own");
  text += "\nPythons\n";
  if (report.pythons.empty()) text += "  none found in $PATH, /usr/bin, /usr/local/bin and pyenv\n";
  for (const PythonFound& python : report.pythons)
    text += line(python.version.empty() ? "?" : python.version,
                 python.path + (python.shared ? ", shared libpython" : ", static") +
                     (python.supported ? "" : ", not supported: Weft knows 3.11 to 3.13"));
  text += "\nLimits\n";
  for (const Limit& limit : report.limits) {
    text += line(limit.name, limit.value + ": " + limit.meaning);
    if (limit.bites) text += line("", "WILL BITE; lift it with: " + limit.remedy);
  }
  return text;
}

Json to_json(const ObjectReport& object) {
  Json routed = Json::array(), left = Json::array();
  for (const RoutedCall& call : object.routed)
    routed.push_back({{"call", call.symbol}, {"family", call.family}});
  for (const LeftCall& call : object.left) left.push_back({{"call", call.symbol}, {"reason", call.reason}});
  return {{"path", object.path},
          {"thread_local_variables", object.has_tls},
          {"untouched", object.untouched.empty() ? Json() : Json(object.untouched)},
          {"routed", routed},
          {"left_alone", left}};
}

Json to_json(const CommandReport& report) {
  Json objects = Json::array(), verdicts = Json::array();
  for (const Verdict& verdict : judge(report)) verdicts.push_back(to_json(verdict));
  for (const ObjectReport& object : report.objects) objects.push_back(to_json(object));
  return {{"verdicts", verdicts},
          {"runnable", report.program.runnable()},
          {"message", report.program.message},
          {"program", report.program.path},
          {"launcher", report.launcher},
          {"chain", report.program.chain},
          {"python", report.program.python},
          {"python_version", report.python_version.empty() ? Json() : Json(report.python_version)},
          {"python_supported", report.program.python && report.python_supported},
          {"objects", objects},
          {"missing", report.missing},
          {"reloader", report.reloader
                           ? Json({{"name", report.reloader->name}, {"advice", report.reloader->advice}})
                           : Json()}};
}

std::string to_text(const ObjectReport& object) {
  std::string text = "\n" + object.path + "\n";
  if (!object.untouched.empty()) return text + line("left alone", object.untouched);
  std::map<std::string, std::vector<std::string>> families, reasons;
  for (const RoutedCall& call : object.routed) families[call.family].push_back(call.symbol);
  for (const LeftCall& call : object.left) reasons[call.reason].push_back(call.symbol);
  for (const auto& [family, calls] : families) text += line("routed: " + family, joined(calls));
  for (const auto& [reason, calls] : reasons) text += line("left alone", joined(calls) + ": " + reason);
  if (families.empty() && reasons.empty()) text += "  calls nothing that is routed\n";
  return text;
}

constexpr const char* kWords =
    "A fiber is a thread that Weft runs; its carrier is the OS thread on which all fibers take turns.\n"
    "  routed      the call leads to Weft: where it would block, its fiber waits, and another runs\n"
    "  left alone  it leads to libc as ever; what blocks there blocks the carrier, and so all fibers: a "
    "pin\n";

std::string to_text(const CommandReport& report) {
  std::string text;
  for (const Verdict& verdict : judge(report)) text += to_text(verdict);
  if (!report.program.runnable()) return text;
  text += "\nruns: " + joined(report.program.chain);
  if (report.program.chain.back() != report.program.path) text += ", which runs " + report.program.path;
  text += "\n";
  if (report.launcher) return text;  // nothing in it is routed
  if (!report.program.python) text += "\nWith --threads=all:\n";
  text += "\n";
  text += kWords;
  std::vector<std::string> silent, with_tls;
  for (const ObjectReport& object : report.objects) {
    if (object.untouched.empty() && object.routed.empty() && object.left.empty())
      silent.push_back(object.path);
    else
      text += to_text(object);
    if (object.has_tls && object.untouched.empty()) with_tls.push_back(object.path);
  }
  const auto list = [&](const char* title, const std::vector<std::string>& paths) {
    if (!paths.empty()) text += std::string("\n") + title + "\n";
    for (const std::string& path : paths) text += "  " + path + "\n";
  };
  list("Objects with thread_local variables, which all fibers share", with_tls);
  list("Objects that call nothing of interest", silent);
  if (report.program.python) text += "\nOther extension modules are looked through as they are loaded.\n";
  return text;
}

}  // namespace

std::string render(const SystemReport& report, Format format) {
  return format == Format::kJson ? dump(to_json(report)) : to_text(report);
}

std::string render(const CommandReport& report, Format format) {
  return format == Format::kJson ? dump(to_json(report)) : to_text(report);
}

}  // namespace weft::engine::doctor
