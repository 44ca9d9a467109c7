#include <algorithm>
#include <string_view>

#include "interpose/elf/base_name.hpp"
#include "runtime/doctor.hpp"

namespace weft::engine::doctor {

namespace {

// A server and what its command line shows when it re-executes itself.
struct Rule {
  std::string_view program;  // the word that names it: a script's name or a module's
  std::string_view needs;    // another word that must be there; empty: none
  std::string_view options;  // any of these turns the reloader on; empty: it is on
  std::string_view off;      // this one turns it off; empty: none
  const char* name;
  const char* how_to_stop;
};
// Lists of words have a space on both sides of each.
constexpr Rule kRules[] = {
    {"flask", "run", " --debug --reload ", "--no-reload", "the reloader of flask", "--no-reload"},
    {"manage.py", "runserver", "", "--noreload", "the reloader of Django's runserver", "--noreload"},
    {"django-admin", "runserver", "", "--noreload", "the reloader of Django's runserver", "--noreload"},
    {"django", "runserver", "", "--noreload", "the reloader of Django's runserver", "--noreload"},
    {"fastapi", "dev", "", "--no-reload", "the reloader of fastapi dev", "--no-reload"},
    {"fastapi", "run", " --reload ", "", "the reloader of fastapi", "leaving out --reload"},
    {"uvicorn", "", " --reload --workers ", "", "uvicorn with --reload or --workers",
     "leaving these options out"},
    {"gunicorn", "", " --reload ", "", "the reloader of gunicorn", "leaving out --reload"},
    {"hypercorn", "", " --reload ", "", "the reloader of hypercorn", "leaving out --reload"},
    {"granian", "", " --reload --workers ", "", "granian with --reload or --workers",
     "leaving these options out"},
    {"sanic", "", "", "--single-process", "sanic, which starts its workers as new interpreters",
     "--single-process"},
    {"pserve", "", " --reload ", "", "the reloader of pserve", "leaving out --reload"},
    {"bottle", "", " --reload ", "", "the reloader of bottle", "leaving out --reload"},
    {"watchfiles", "", "", "", "watchfiles", "starting the program itself"},
    {"watchmedo", "", "", "", "watchmedo", "starting the program itself"},
    {"hupper", "", "", "", "hupper", "starting the program itself"},
};

bool is_one_of(std::string_view words, const std::string& word) {
  return words.find(" " + word.substr(0, word.find('=')) + " ") != words.npos;
}

}  // namespace

std::optional<Reloader> find_reloader(const std::vector<std::string>& command, const char* flask_debug) {
  const auto has = [&](auto&& condition) { return std::any_of(command.begin(), command.end(), condition); };
  for (const Rule& rule : kRules) {
    const auto named = std::find_if(command.begin(), command.end(),
                                    [&](const std::string& word) { return base_name(word) == rule.program; });
    if (named == command.end()) continue;
    if (!rule.needs.empty() && std::find(named, command.end(), rule.needs) == command.end()) continue;
    const bool by_variable =
        rule.program == "flask" && flask_debug && *flask_debug && std::string_view(flask_debug) != "0";
    const bool on = rule.options.empty() || by_variable ||
                    has([&](const std::string& word) { return is_one_of(rule.options, word); });
    const bool off = !rule.off.empty() && has([&](const std::string& word) { return word == rule.off; });
    if (!on || off) continue;
    return Reloader{
        rule.name, std::string("what serves is a process that it starts anew, which does not run under Weft: "
                               "give weft run --children, or turn it off by ") +
                       rule.how_to_stop};
  }
  return std::nullopt;
}

}  // namespace weft::engine::doctor
