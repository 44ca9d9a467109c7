// A command, run again and again: what it leaves in the system.
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <map>
#include <system_error>
#include <thread>

#include "leaks/census.hpp"
#include "leaks/command/check.hpp"
#include "process/tree.hpp"
#include "weft/process/executor.hpp"

namespace weft::leaks {

namespace {

using detail::LeakCensus;
using detail::LeakResource;
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr uint64_t kRuns = 3;
constexpr uint64_t kRunsThatLeak = 2;  // one may be chance
constexpr auto kSettle = std::chrono::milliseconds(200);

struct Kind {
  LeakResource resource;
  const char *name, *several;
};
constexpr Kind kKinds[] = {
    {LeakResource::kChild, "processes", "processes"},
    {LeakResource::kFile, "files", "temporary files"},
    {LeakResource::kSegment, "segments", "segments of shared memory"},
};

struct Failure {
  const char* what;
  std::string text;
};

// What has ended of the processes that others left behind is ours to wait for.
void reap() {
  while (waitpid(-1, nullptr, WNOHANG) > 0) {
  }
}

std::unique_ptr<const LeakCensus> take_census(uint32_t kinds) {
  auto census = std::make_unique<LeakCensus>(kinds, LeakCensus::Makers::kAnybody);
  census->take();
  return census;
}

// A process that has been told to end needs a moment.
std::unique_ptr<const LeakCensus> settled(const LeakCensus& before) {
  const auto end = Clock::now() + kSettle;
  for (auto pause = std::chrono::microseconds(200);;
       pause = std::min(2 * pause, std::chrono::microseconds(20'000))) {
    reap();
    auto census = take_census(before.resources());
    if (!census->has_more_than(before) || Clock::now() >= end) return census;
    std::this_thread::sleep_for(pause);
  }
}

// Ends whatever descends from this process.
void end_all() {
  const auto signal_all = [](int signal) {
    const auto all = process::descendants(getpid());
    for (const process::Process& one : all) process::signal_descendant(one.pid, signal);
    return all.size();
  };
  const auto deadline = Clock::now() + std::chrono::seconds(2);
  int signal = SIGTERM;
  for (auto next = Clock::now() + kSettle; signal_all(signal) > 0;
       std::this_thread::sleep_for(std::chrono::milliseconds(5))) {
    reap();
    if (Clock::now() > next) signal = SIGKILL;
    if (Clock::now() > deadline) break;
  }
  reap();
}

volatile sig_atomic_t g_signal = 0;

// What descends from this process while it lives is ended with it, also when a signal ends us.
class Processes {
 public:
  Processes() {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    struct sigaction note {};
    note.sa_handler = [](int signal) { g_signal = signal; };
    for (size_t i = 0; i < std::size(kSignals); ++i) {
      sigaction(kSignals[i], nullptr, &former_[i]);
      if (former_[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &note, nullptr);
    }
  }
  ~Processes() {
    end_all();
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &former_[i], nullptr);
    if (g_signal != 0) raise(g_signal);
  }
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
  struct sigaction former_[std::size(kSignals)];
};

pid_t start(const std::vector<std::string>& command, bool show_output) {
  int failed[2];
  if (pipe2(failed, O_CLOEXEC) != 0) throw std::system_error(errno, std::system_category(), "pipe");
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, STDIN_FILENO);
    dup2(show_output ? STDERR_FILENO : null, STDOUT_FILENO);
    if (!show_output) dup2(null, STDERR_FILENO);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execvp(words[0], words.data());
    const int error = errno;
    if (write(failed[1], &error, sizeof error) < 0) _exit(126);
    _exit(127);
  }
  const int fork_error = errno;
  close(failed[1]);
  int error = 0;
  const ssize_t size = pid < 0 ? 0 : read(failed[0], &error, sizeof error);
  close(failed[0]);
  if (pid < 0) throw std::system_error(fork_error, std::system_category(), "fork");
  if (size == sizeof error) {
    waitpid(pid, nullptr, 0);
    throw Failure{"program", "cannot be executed: " + std::system_category().message(error)};
  }
  return pid;
}

// Its status, as waitpid() has it.
int wait(pid_t pid, Seconds limit) {
  const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(limit);
  for (auto pause = std::chrono::microseconds(50);;
       pause = std::min(2 * pause, std::chrono::microseconds(5'000))) {
    int status = 0;
    const pid_t ended = waitpid(pid, &status, WNOHANG);
    if (ended == pid) return status;
    if (ended < 0 && errno != EINTR) throw std::system_error(errno, std::system_category(), "waitpid");
    if (g_signal != 0) throw Failure{"ended", "was ended, since weft leaks was"};
    if (Clock::now() > deadline) {
      char text[96];
      snprintf(text, sizeof text, "did not end within %g s (--call-limit), and was ended", limit.count());
      throw Failure{"timeout", text};
    }
    std::this_thread::sleep_for(pause);
  }
}

void require_success(int status, bool any_exit) {
  if (WIFSIGNALED(status)) throw Failure{"ended", "ended by " + name_of_signal(WTERMSIG(status))};
  if (!any_exit && WEXITSTATUS(status) != 0)
    throw Failure{"ended",
                  "exited with " + std::to_string(WEXITSTATUS(status)) +
                      "; --any-exit if that is as it should be, --show-output to see what it writes"};
}

uint32_t kinds_of(const Request& request) {
  uint32_t kinds = 0;
  for (const Kind& kind : kKinds)
    if (request.only.empty() ||
        std::find(request.only.begin(), request.only.end(), kind.name) != request.only.end())
      kinds |= 1u << static_cast<unsigned>(kind.resource);
  return kinds;
}

// Of one kind: how many runs left something behind the first, and what the last of them left.
struct Left {
  uint64_t runs = 0;
  std::string things;
};
using AllLeft = std::map<LeakResource, Left>;

void run_once(const Request& request, const std::vector<std::string>& command, bool counts, AllLeft& left) {
  const auto before = take_census(kinds_of(request));
  require_success(wait(start(command, request.show_output), request.call_limit), request.any_exit);
  const auto after = settled(*before);
  if (!counts) return;
  for (const Kind& kind : kKinds) {
    if (after->of(kind.resource).size() <= before->of(kind.resource).size()) continue;
    Left& one = left[kind.resource];
    ++one.runs;
    one.things.clear();
    for (const auto& [key, thing] : after->of(kind.resource))
      if (!before->of(kind.resource).contains(key)) one.things += "* " + thing.text + "\n";
  }
}

}  // namespace

Outcome check_command(const Target& target, const Request& request, const Progress& progress) {
  Outcome outcome;
  outcome.target = target;
  const auto begin = Clock::now();
  const uint64_t runs = request.calls ? request.calls : kRuns;
  try {
    const Processes processes;
    AllLeft left;
    while (outcome.calls < runs) {
      // What the first run makes once for all is no leak.
      run_once(request, target.command, outcome.calls > 0, left);
      ++outcome.calls;
      if (progress) progress("run " + std::to_string(outcome.calls) + " of " + std::to_string(runs));
    }
    outcome.verdict = Outcome::Verdict::kClean;
    for (const Kind& kind : kKinds) {
      const Left& one = left[kind.resource];
      if (one.runs < kRunsThatLeak) continue;
      outcome.verdict = Outcome::Verdict::kLeaks;
      outcome.what += (outcome.what.empty() ? "" : ",") + std::string(kind.name);
      outcome.text += std::to_string(one.runs) + " of the " + std::to_string(runs - 1) +
                      " runs after the first left " + kind.several + ", the last of them:\n" + one.things;
    }
  } catch (const Failure& failure) {
    outcome.what = failure.what;
    outcome.text = failure.text;
  }
  outcome.seconds = Seconds(Clock::now() - begin).count();
  return outcome;
}

}  // namespace weft::leaks
