#include "leaks.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>

#include "interpose/elf/program.hpp"
#include "preloads.hpp"
#include "process/service.hpp"
#include "process/voice.hpp"
#include "run.hpp"
#include "usage.hpp"

namespace weft::engine::cli {

namespace {

namespace fs = std::filesystem;
using leaks::Outcome;
using leaks::Target;

constexpr const char* kAgent = "libweft-leaks.so";
constexpr int kLeaks = 1;

constexpr const char* kFooter =
    "What is checked, each in a process of its own:\n"
    "  module:function         a function of a Python module, or Class.method\n"
    "  file.py:function        the same of a file\n"
    "  ./program:function      a function that a native program exports, called in place of main()\n"
    "  ./library.so:function   a function of a shared library\n"
    "  ./program, -- COMMAND   a command, run again and again: the processes, temporary files and shared\n"
    "                          memory that each run leaves\n"
    "\n"
    "A function is called until it is certain whether what it leaves keeps pace with the calls: memory,\n"
    "descriptors, threads, fibers, processes, temporary files, shared memory; in Python also garbage.\n"
    "\n"
    "Arguments of Python's functions are literals, or else texts, and name=value; of native ones whole\n"
    "numbers and texts. One that begins with a dash is given as --args=-1.\n"
    "\n"
    "Exit code: 0 nothing leaks, 1 something does, 2 wrong usage, 125 something could not be checked.\n"
    "\n"
    "Examples:\n"
    "  weft leaks json:loads --args '\"[1, 2]\"'\n"
    "  weft leaks mypackage.parser:parse mypackage.parser:dump --args sample.txt --junit leaks.xml\n"
    "  weft leaks ./server:handle_request --args 7 '/index.html' --calls 50\n"
    "  weft leaks --calls 10 -- ./tool --convert picture.png";

// "1e3" is no count.
uint64_t parse_count(const std::string& text) {
  if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != text.npos)
    throw std::invalid_argument("'" + text + "' is no number; expected one as in 200");
  return std::stoul(text);
}

uint64_t parse_positive(const std::string& text) {
  const uint64_t count = parse_count(text);
  if (count == 0) throw std::invalid_argument("0 is too few; expected 1 or more");
  return count;
}

std::chrono::duration<double> parse_positive_seconds(const std::string& text) {
  const std::chrono::duration<double> span = process::parse_seconds(text);
  if (span.count() <= 0)
    throw std::invalid_argument("'" + text + "' is too short; expected more than 0 seconds");
  return span;
}

// The interpreter beside this program, as in a virtual environment; else the first on the path.
std::string default_python() {
  std::error_code ignored;
  const fs::path beside = fs::read_symlink("/proc/self/exe", ignored).parent_path() / "python3";
  return fs::exists(beside, ignored) ? beside.string() : "python3";
}

void write_file(const std::string& file, const std::string& text, std::ios::openmode mode = std::ios::trunc) {
  if (file == "-") {
    if (!(std::cout << text << std::flush))
      throw std::system_error(errno, std::system_category(), "standard output cannot be written");
    return;
  }
  std::ofstream stream(file, mode);
  stream << text << std::flush;
  if (!stream) throw std::system_error(errno, std::system_category(), file + " cannot be written");
}

// The name of a drawing, another for each target.
std::string file_name(const std::string& text, std::set<std::string>& taken) {
  std::string name;
  for (const char c : text.substr(std::min(text.find_first_not_of("./"), text.size())))
    name += isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' ? c : '-';
  name = name.substr(0, 200);
  std::string unique = name;
  for (int number = 2; !taken.insert(unique).second; ++number) unique = name + "-" + std::to_string(number);
  return unique + ".svg";
}

// The descriptors 0 to 2 are open from here on: pipes must not come to lie there.
void require_streams() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd)
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
      throw std::system_error(errno, std::system_category(), "/dev/null");
}

}  // namespace

LeaksCommand::LeaksCommand(CLI::App& parent)
    : app_(*add_command(parent, "leaks", "weft leaks [OPTIONS] TARGET... | [OPTIONS] -- COMMAND [ARG...]",
                        "Tell whether functions, or a command, leave anything behind")) {
  app_.footer(kFooter);
  app_.add_option("TARGET", words_, "module:function, file.py:function, ./program:function, ./program")
      ->type_name("");
  add_options_of_checks();
  add_options_of_reports();
}

CLI::Option* LeaksCommand::add_text(const char* name, const char* type, const char* help,
                                    std::function<void(const std::string&)> take) {
  return cli::add_text(app_, name, type, help, std::move(take));
}

void LeaksCommand::add_options_of_checks() {
  const auto of_functions = [&](CLI::Option* option) { of_functions_.push_back(option); };
  of_functions(app_.add_option("--args", request_.arguments, "Of each function")
                   ->type_name("VALUE...")
                   ->expected(1, 1000)
                   ->allow_extra_args(false));  // or CLI11 takes [1] for a list of its own
  add_text("--calls", "N", "In the first run, 200; the runs after it are longer. Of a command: runs, 3",
           [&](const std::string& value) { request_.calls = parse_positive(value); });
  of_functions(
      add_text("--warm-up", "N", "Calls before anything is measured (10)",
               [&](const std::string& value) { request_.warm_up = static_cast<int>(parse_count(value)); }));
  of_functions(
      add_text("--runs", "N", "After which growth is a leak (10); more where that is not certain",
               [&](const std::string& value) { request_.runs = static_cast<int>(parse_positive(value)); }));
  of_functions(add_text("--tolerance", "SIZE", "That as many calls as --calls may leave (0)",
                        [&](const std::string& value) { request_.tolerance = leaks::parse_size(value); }));
  of_functions(add_text(
      "--time-limit", "SECONDS", "For the runs of a function (10)",
      [&](const std::string& value) { request_.time_limit = parse_positive_seconds(value).count(); }));
  of_functions(add_text("--memory-limit", "SIZE", "That the process may grow by (256M)",
                        [&](const std::string& value) {
                          request_.memory_limit = leaks::parse_size(value);
                          if (request_.memory_limit == 0)
                            throw std::invalid_argument("0 is too little; expected a size as in 256M");
                        }));
  of_functions(app_.add_flag_callback(
      "--no-search", [&] { request_.search = false; },
      "Do not look for the code that allocates what is lost"));
  add_text("--call-limit", "SECONDS", "In which a call, or a command, has to end (60)",
           [&](const std::string& value) { request_.call_limit = parse_positive_seconds(value); });
  add_text("--only", "WHAT",
           "Look at this alone: memory, descriptors, threads, fibers, processes, files, segments; in Python "
           "python-threads, garbage. May be given again",
           [&](const std::string& value) { request_.only.push_back(value); });
  any_exit_ = app_.add_flag("--any-exit", request_.any_exit, "A command may exit with another code than 0");
  request_.python = default_python();
  add_text("--python", "PROGRAM", "The interpreter of Python's functions, which has the package weft",
           [&](const std::string& value) { request_.python = value; });
}

void LeaksCommand::add_options_of_reports() {
  add_text("--json", "FILE", "Write what was found as JSON; - is standard output",
           [&](const std::string& value) { json_ = value; });
  add_text("--junit", "FILE", "The same as JUnit's XML", [&](const std::string& value) { junit_ = value; });
  add_text("--svg", "FOLDER", "Draw the growth over the calls of each function into it",
           [&](const std::string& value) { svg_ = value; });
  app_.add_flag("--show-output", request_.show_output, "What is checked writes to standard error");
  app_.add_flag("--quiet", quiet_, "Tell of leaks and failures only");
}

std::vector<Target> LeaksCommand::targets(const std::vector<std::string>& command) const {
  std::vector<Target> all;
  for (const std::string& word : words_) all.push_back(leaks::parse_target(word));
  if (!command.empty()) {
    Target target;
    target.text = interpose::elf::shell_words(command);
    target.command = command;
    all.push_back(std::move(target));
  }
  if (all.empty())
    throw std::invalid_argument("something to check is required, as in weft leaks module:function");
  return all;
}

void LeaksCommand::check_options(const std::vector<Target>& targets) const {
  const auto has = [&](Target::Kind kind) {
    return std::any_of(targets.begin(), targets.end(), [&](const Target& one) { return one.kind == kind; });
  };
  const bool commands = has(Target::Kind::kCommand);
  const bool functions = has(Target::Kind::kPython) || has(Target::Kind::kNative);
  if (!functions)
    for (const CLI::Option* option : of_functions_)
      if (option->count() > 0)
        throw std::invalid_argument(option->get_name() + " is for functions, and a command is checked");
  if (!commands && any_exit_->count() > 0) throw std::invalid_argument("--any-exit is for commands");
  if (commands && request_.calls != 0 && request_.calls < 3)
    throw std::invalid_argument("--calls: a command has to be run 3 times or more");
  for (const std::string& what : request_.only) {
    const auto is = [&](const char* name) { return what == name; };
    const bool everywhere = std::any_of(std::begin(leaks::kWatched), std::end(leaks::kWatched), is);
    const bool python =
        std::any_of(std::begin(leaks::kWatchedInPython), std::end(leaks::kWatchedInPython), is);
    if (!everywhere && !python) {
      std::string known;
      for (const char* const name : leaks::kWatched) known += std::string(name) + ", ";
      throw std::invalid_argument("--only: there is no '" + what + "'; expected " + known +
                                  "python-threads or garbage");
    }
    if (python && (commands || has(Target::Kind::kNative)))
      throw std::invalid_argument("--only: " + what + " is of Python's functions alone");
    if (commands && what != "processes" && what != "files" && what != "segments")
      throw std::invalid_argument("--only: of a command processes, files and segments are looked at, not " +
                                  what);
  }
}

void LeaksCommand::prepare_reports() const {
  if (json_ == "-" && junit_ == "-")
    throw std::invalid_argument("--json and --junit cannot both be written to standard output");
  for (const std::string& file : {json_, junit_})
    if (!file.empty() && file != "-") write_file(file, "", std::ios::app);
  if (!svg_.empty()) fs::create_directories(svg_);
}

void LeaksCommand::report(const std::vector<Outcome>& outcomes) const {
  if (!json_.empty()) write_file(json_, leaks::to_json(outcomes));
  if (!junit_.empty()) write_file(junit_, leaks::to_junit(outcomes));
  if (svg_.empty()) return;
  std::set<std::string> taken;
  for (const Outcome& outcome : outcomes)
    if (!outcome.svg.empty())
      write_file((fs::path(svg_) / file_name(outcome.target.text, taken)).string(), outcome.svg);
}

Outcome LeaksCommand::check(const Target& target, const std::string& agent, process::Voice& voice) const {
  const auto progress = [&](const std::string& line) { voice.progress(target.text + ": " + line); };
  try {
    return target.kind == Target::Kind::kCommand ? leaks::check_command(target, request_, progress)
                                                 : leaks::check_function(target, request_, agent, progress);
  } catch (const std::exception& error) {  // of one that cannot be checked the others are none the worse
    Outcome outcome;
    outcome.target = target;
    outcome.what = "system";
    outcome.text = process::for_users(error.what());
    return outcome;
  }
}

int LeaksCommand::run(const std::vector<std::string>& command) {
  try {
    const std::vector<Target> all = targets(command);
    check_options(all);
    require_streams();
    prepare_reports();
    std::string complaint, agent;
    if (std::any_of(all.begin(), all.end(),
                    [](const Target& one) { return one.kind == Target::Kind::kNative; }))
      agent = find_preload(kAgent, complaint);
    if (!complaint.empty()) throw std::runtime_error(complaint);
    process::Voice voice({.name = "weft leaks", .quiet = quiet_});
    std::ostream& text = json_ == "-" || junit_ == "-" ? std::cerr : std::cout;
    std::vector<Outcome> outcomes;
    for (const Target& target : all) {
      voice.progress(target.text);
      outcomes.push_back(check(target, agent, voice));
      voice.end_progress();
      if (!quiet_ || outcomes.back().verdict != Outcome::Verdict::kClean)
        text << leaks::to_text(outcomes.back()) << std::flush;
    }
    const auto any = [&](Outcome::Verdict verdict) {
      return std::any_of(outcomes.begin(), outcomes.end(),
                         [&](const Outcome& one) { return one.verdict == verdict; });
    };
    int code = any(Outcome::Verdict::kLeaks) ? kLeaks : any(Outcome::Verdict::kFailed) ? kOwnFailure : 0;
    try {
      if (!text) throw std::system_error(errno, std::system_category(), "the text cannot be written");
      report(outcomes);
    } catch (const std::exception& error) {
      std::cerr << "weft leaks: " << error.what() << "\n";
      if (code == 0) code = kOwnFailure;
    }
    return code;
  } catch (const std::invalid_argument& error) {
    return complain(app_, "leaks: " + process::for_users(error.what()));
  } catch (const std::exception& error) {
    std::cerr << "weft leaks: " << error.what() << "\n";
    return kOwnFailure;
  }
}

}  // namespace weft::engine::cli
