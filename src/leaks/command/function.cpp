// A function, checked in a process of its own: what it does to that, nobody else has to bear.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>

#include "interpose/elf/program.hpp"
#include "leaks/command/check.hpp"
#include "weft/process/executor.hpp"

namespace weft::leaks {

namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
namespace elf = engine::interpose::elf;

constexpr int kReportDescriptor = 3;
constexpr auto kGrace = std::chrono::seconds(5);  // for writing what it was doing, and for its end
constexpr size_t kLinesOfOutput = 30;
constexpr Seconds kSlack{0.5};
constexpr Seconds kLoading{60};  // for what is done before the first call, at least

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Pipe {
 public:
  Pipe() {
    if (pipe2(ends_, O_CLOEXEC) != 0) throw std::system_error(errno, std::system_category(), "pipe");
  }
  ~Pipe() {
    close_writer();
    close(ends_[0]);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  int reader() const noexcept { return ends_[0]; }
  int writer() const noexcept { return ends_[1]; }
  void close_writer() noexcept {
    if (ends_[1] >= 0) close(std::exchange(ends_[1], -1));
  }

 private:
  int ends_[2];
};

// Lines of a process.
class Lines {
 public:
  enum class Next { kLine, kEnd, kLate };
  Lines(int fd, const process::Executor& writer) : fd_(fd), writer_(writer) {}

  Next next(std::string& line, Seconds limit) {
    const auto begin = Clock::now();
    for (;;) {
      if (const size_t end = pending_.find('\n'); end != pending_.npos) {
        line = pending_.substr(0, end);
        pending_.erase(0, end + 1);
        return Next::kLine;
      }
      if (Clock::now() - begin > limit) return Next::kLate;
      // Another process may hold the pipe open, which the writer started.
      const bool ended = writer_.exit_code().has_value();
      pollfd ready{fd_, POLLIN, 0};
      const int found = poll(&ready, 1, ended ? 0 : kLook);
      if (found == 0 && ended) return Next::kEnd;
      if (found <= 0) continue;
      char buffer[16 * 1024];
      const ssize_t size = read(fd_, buffer, sizeof buffer);
      if (size == 0) return Next::kEnd;
      if (size > 0) pending_.append(buffer, static_cast<size_t>(size));
    }
  }

 private:
  static constexpr int kLook = 100;  // milliseconds between two looks at the writer

  const int fd_;
  const process::Executor& writer_;
  std::string pending_;
};

std::vector<std::string> words_for(const Target& target, const Request& request) {
  if (target.kind == Target::Kind::kPython) return {request.python, "-m", "weft.leaks._agent"};
  if (target.library) return {std::filesystem::read_symlink("/proc/self/exe")};
  const elf::Program program = elf::inspect_program(target.place);
  if (!program.runnable()) throw Failure(program.message);
  if (program.chain.front() != program.path)
    throw Failure(target.place + " is a script, and only programs export functions");
  return {target.place};
}

process::Options options_for(const Target& target, const Request& request, const std::string& agent,
                             int writer) {
  process::Options options;
  options.standard_input = process::StreamTo::null();
  if (request.show_output) {
    options.standard_output = process::StreamTo::descriptor(STDERR_FILENO);
    options.standard_error = process::StreamTo::inherit();
  } else {
    options.standard_output = process::StreamTo::null();
  }
  options.passed = {{writer, kReportDescriptor}};
  options.grace = kGrace;
  try {
    options.environment["WEFT_LEAKS_REQUEST"] = to_json(target, request);
  } catch (const Json::exception&) {
    throw Failure("its name and its arguments have to be UTF-8");
  }
  if (target.kind == Target::Kind::kNative) {
    const char* const preloaded = getenv("LD_PRELOAD");
    options.environment["LD_PRELOAD"] = agent + (preloaded && *preloaded ? ":" + std::string(preloaded) : "");
  }
  return options;
}

std::string seconds(Seconds span) {
  char text[32];
  snprintf(text, sizeof text, "%g", span.count());
  return text;
}

// What it wrote, for messages.
std::string with_output(std::string text, const process::Executor& checker) {
  const std::string output = checker.last_output(kLinesOfOutput);
  if (!output.empty()) text += "\nIts last output:\n" + output;
  return text;
}

std::string describe_end(const process::Executor& checker) {
  const std::optional<int> code = checker.wait_for(kGrace);
  if (!code) return "closed the descriptor by which its check is reported, number 3";
  if (*code < 0) return "ended its process by " + name_of_signal(-*code);
  return "ended its process with exit code " + std::to_string(*code);
}

// The check ended without a verdict.
void blame(const process::Executor& checker, const Target& target, const Request& request, Outcome& outcome) {
  const std::string end = describe_end(checker);
  outcome.what = "ended";
  outcome.text = with_output(end, checker);
  if (target.kind != Target::Kind::kPython || outcome.text.find("No module named 'weft") == std::string::npos)
    return;
  outcome.what = "program";
  outcome.text = request.python + " has no package weft: install it there, as by " + request.python +
                 " -m pip install weft, or name an interpreter that has it by --python";
}

void take(const Json& found, Outcome& outcome) {
  const std::string verdict = found.at("verdict");
  outcome.verdict = verdict == "clean"   ? Outcome::Verdict::kClean
                    : verdict == "leaks" ? Outcome::Verdict::kLeaks
                                         : Outcome::Verdict::kFailed;
  outcome.what = found.value("what", "");
  outcome.text = found.value("text", "");
  outcome.svg = found.value("svg", "");
  outcome.calls = found.value("calls", uint64_t{0});
  outcome.uncertain = found.value("uncertain", false);
  outcome.exact = found.value("exact", true);
}

// An interpreter writes what its threads were doing.
void abort(process::Executor& checker) {
  try {
    checker.signal(SIGABRT);
  } catch (const std::system_error&) {
    // It has ended meanwhile.
  }
  checker.wait_for(kGrace);
}

void listen(process::Executor& checker, int reader, const Request& request, const Progress& progress,
            Outcome& outcome) {
  // Lines come every quarter of the limit, if calls return; looking at the heap takes its time, too.
  const Seconds call_limit = request.call_limit * 1.25 + kSlack;
  Seconds limit = std::max(call_limit, kLoading);
  Lines lines(reader, checker);
  for (std::string line;;) switch (lines.next(line, limit)) {
      case Lines::Next::kLine: {
        const Json event = Json::parse(line);
        if (event.contains("loaded")) limit = call_limit;
        if (event.contains("verdict")) return take(event, outcome);
        if (progress && event.contains("line")) progress(event.at("line"));
        break;
      }
      case Lines::Next::kEnd:
        return blame(checker, outcome.target, request, outcome);
      case Lines::Next::kLate:
        abort(checker);
        outcome.what = "timeout";
        outcome.text = with_output(limit == call_limit
                                       ? "did not return from a call within " + seconds(request.call_limit) +
                                             " s (--call-limit), and was ended"
                                       : "was not loaded within " + seconds(limit) + " s, and was ended",
                                   checker);
        return;
    }
}

}  // namespace

std::string name_of_signal(int number) {
  const char* const name = sigabbrev_np(number);
  return name ? "SIG" + std::string(name) : "signal " + std::to_string(number);
}

Outcome check_function(const Target& target, const Request& request, const std::string& agent,
                       const Progress& progress) {
  Outcome outcome;
  outcome.target = target;
  const auto start = Clock::now();
  try {
    Pipe report;
    process::Executor checker(process::Command(words_for(target, request)),
                              options_for(target, request, agent, report.writer()));
    checker.start();
    report.close_writer();
    listen(checker, report.reader(), request, progress, outcome);
    checker.kill();
  } catch (const Failure& failure) {
    outcome.what = "program";
    outcome.text = failure.what();
  } catch (const process::NotStarted& error) {
    outcome.what = "program";
    outcome.text = error.what();
  } catch (const Json::exception& error) {
    outcome.what = "ended";
    outcome.text =
        "wrote to the descriptor by which its check is reported, number 3: " + std::string(error.what());
  }
  outcome.seconds = Seconds(Clock::now() - start).count();
  return outcome;
}

}  // namespace weft::leaks
