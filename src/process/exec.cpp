#include "process/exec.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>

#include "process/foreground.hpp"
#include "weft/event.hpp"
#include "weft/runtime.hpp"
#include "weft/task_group.hpp"

namespace weft::process {

namespace {

// A service of this run.
struct Member {
  enum class State { kWaiting, kStarting, kReady, kEnded, kFailed };

  explicit Member(const Service& s) : service(s) {}
  bool started() const { return executor && executor->pid() > 0; }

  const Service& service;
  std::optional<Executor> executor;
  std::vector<Member*> after, before;
  State state = State::kWaiting;
  std::string seen;     // by the last look
  std::string failure;  // why it is not ready
  Event ready, stopped;
  Fiber<> reader;
};

// How far who writes a service's output to a terminal or a log may be behind it.
constexpr size_t kFollowedOutput = 16 << 20;

std::string indented(const std::string& text) {
  std::string all = "  ";
  for (const char c : text) all += c == '\n' ? "\n  " : std::string(1, c);
  return all;
}

int shell_code(int code) {
  return code < 0 ? 128 - code : code;
}

class Session {
 public:
  explicit Session(const ExecOptions& options);
  int run();

 private:
  using State = Member::State;
  enum class Phase { kStart, kRun, kStop };

  Executor executor_of(Member& member);
  void start(Member& member);
  bool start_all();
  void tell_failure() const;
  std::string names(std::initializer_list<State> states) const;
  void show_progress();

  void copy_output(const Member& member, OutputReader reader);
  void watch(Member& member);
  void ended(Member& member, int code);

  int run_command();
  int run_until_end();
  void stop(Member& member);
  void stop_all();
  void hurry();

  void listen();
  void on_signal(const signalfd_siginfo& info);
  void on_request(const signalfd_siginfo& info);

  const ExecOptions& options_;
  Signals signals_;
  Runtime runtime_;
  mutable Voice voice_;
  Foreground command_{signals_};
  size_t name_width_ = 0;
  std::vector<std::unique_ptr<Member>> members_;
  std::optional<TaskGroup> watchers_;
  TaskGroup* starting_ = nullptr;
  Phase phase_ = Phase::kStart;
  int first_signal_ = 0, signal_count_ = 0;
  bool killing_ = false;          // the command has been told to end, and will be killed
  std::optional<int> last_code_;  // of the service that ended last, or first failed
  Event over_;
};

Session::Session(const ExecOptions& options) : options_(options), voice_(options.voice) {
  for (const Service& service : options.services) {
    members_.push_back(std::make_unique<Member>(service));
    Member& member = *members_.back();
    for (const std::string& name : service.after)
      for (const auto& other : members_)
        if (other->service.name == name) {
          member.after.push_back(other.get());
          other->before.push_back(&member);
        }
    member.executor.emplace(executor_of(member));
    name_width_ = std::max(name_width_, service.name.size());
  }
}

Executor Session::executor_of(Member& member) {
  Options options = member.service.options;
  options.on_progress = [&member](const Progress& progress) { member.seen = progress.seen; };
  std::vector<Readiness> parts;
  // Called by the first look, when there is something to be read: what is written before the service is ready
  // is to be seen at once.
  if (voice_.takes_output()) {
    options.kept_output = kFollowedOutput;
    parts.push_back(Readiness::custom(
        [this, &member] {
          member.reader =
              spawn([this, &member, reader = member.executor->output()] { copy_output(member, reader); });
          return true;
        },
        "output"));
  }
  if (member.service.readiness.condition()) parts.push_back(member.service.readiness);
  return Executor(member.service.command, std::move(options), join_readiness(std::move(parts), false));
}

void Session::copy_output(const Member& member, OutputReader reader) {
  constexpr size_t kLongest = 64 * 1024;  // of a line that is not cut
  const std::string prefix =
      member.service.name + std::string(name_width_ - member.service.name.size(), ' ') + " | ";
  std::string pending, lines;
  uint64_t told_lost = 0;
  for (bool more = true; more;) {
    const std::string text = reader.read_some();
    more = !text.empty();
    pending += text;
    if (pending.size() > kLongest || (!more && !pending.empty() && pending.back() != '\n')) pending += '\n';
    size_t begin = 0;
    for (size_t end; (end = pending.find('\n', begin)) != std::string::npos; begin = end + 1)
      lines.append(prefix).append(pending, begin, end + 1 - begin);
    pending.erase(0, begin);
    if (const uint64_t lost = reader.bytes_lost(); lost > told_lost) {
      lines += prefix + "(" + std::to_string(lost - told_lost) + " bytes came faster than they were read)\n";
      told_lost = lost;
    }
    voice_.output(std::exchange(lines, {}));
  }
}

void Session::start(Member& member) {
  for (Member* other : member.after) other->ready.wait();
  member.state = State::kStarting;
  try {
    member.executor->start();
  } catch (const Cancelled&) {
    throw;
  } catch (const std::exception& error) {
    member.state = State::kFailed;
    member.failure = for_users(error.what());
    throw;
  }
  member.state = State::kReady;
  watchers_->spawn([this, &member] { watch(member); });
  member.ready.set();
}

std::string Session::names(std::initializer_list<State> states) const {
  std::string text;
  for (const auto& member : members_)
    if (std::find(states.begin(), states.end(), member->state) != states.end())
      text += (text.empty() ? "" : ", ") + member->service.name;
  return text;
}

void Session::tell_failure() const {
  for (const auto& member : members_)
    if (member->state == State::kFailed)
      voice_.say(member->service.name + " is not ready: " + member->failure);
  if (members_.size() == 1) return;
  const std::string ready = names({State::kReady}), starting = names({State::kStarting}),
                    waiting = names({State::kWaiting}), gone = names({State::kEnded});
  std::string others = "ready: " + (ready.empty() ? "none" : ready);
  if (!gone.empty()) others += "; ended: " + gone;
  if (!starting.empty()) others += "; not ready yet: " + starting;
  if (!waiting.empty()) others += "; not started: " + waiting;
  voice_.say(others);
}

void Session::show_progress() {
  for (int elapsed = 1;; ++elapsed) {
    sleep(std::chrono::seconds(1));
    std::string text = std::to_string(elapsed) + " s: waiting for ";
    const size_t begin = text.size();
    for (const auto& member : members_)
      if (member->state == State::kStarting)
        text += (text.size() == begin ? "" : ", ") + member->service.name +
                (member->seen.empty() ? "" : " (" + member->seen + ")");
    voice_.progress(text);
  }
}

// Whoever fails cancels the others.
bool Session::start_all() {
  Fiber<> progress;
  if (voice_.shows_progress()) progress = spawn([this] { show_progress(); });
  bool good = true;
  {
    TaskGroup group;
    starting_ = &group;
    for (const auto& member : members_)
      group.spawn([this, &member] { start(*member); }, {.name = member->service.name});
    if (first_signal_) group.cancel();
    try {
      group.join();
    } catch (const std::exception&) {
      good = false;
    } catch (const Cancelled&) {
      good = false;
    }
    starting_ = nullptr;
  }
  if (progress.valid()) {
    progress.cancel();
    progress.join();
    voice_.end_progress();
  }
  if (first_signal_) return false;
  if (!good) tell_failure();
  return good;
}

// Until it has ended: also what it left behind, as daemons do.
void Session::watch(Member& member) {
  const int code = member.executor->wait();
  while (member.executor->running()) sleep(std::chrono::milliseconds(50));
  member.state = State::kEnded;
  ended(member, code);
}

void Session::ended(Member& member, int code) {
  if (phase_ == Phase::kStop) return;
  if (!last_code_ || *last_code_ == 0) last_code_ = shell_code(code);
  const bool all = std::all_of(members_.begin(), members_.end(),
                               [](const auto& each) { return each->state == State::kEnded; });
  const bool decides = options_.command.empty() && phase_ == Phase::kRun && (code != 0 || all);
  // With a single service its exit code is the program's own, and says enough.
  if (!decides || members_.size() > 1) {
    const std::string output = options_.voice.show_output ? "" : member.executor->last_output();
    voice_.say(member.service.name + " " + detail::describe_exit(code) +
               (options_.command.empty() ? "" : " while the command was to run") +
               (output.empty() ? "" : "; its last output:\n" + indented(output)));
  }
  if (decides) over_.set();
}

int Session::run_command() {
  const std::string& file = options_.command.front();
  if (const int error = command_.start(options_.command)) {
    voice_.say(file + ": " +
               (error == ENOENT
                    ? "it was not found; it, or the interpreter in its first line, is neither there "
                      "nor in a folder of PATH"
                    : "it cannot be executed: " + std::system_category().message(error)));
    return error == ENOENT ? kCommandNotFound : kCannotExecute;
  }
  over_.wait();
  return command_.exit_code();
}

int Session::run_until_end() {
  voice_.note(members_.size() == 1
                  ? "ready; there is no command, so it runs until it ends, or Ctrl-C is pressed"
                  : "ready: " + names({State::kReady}) +
                        "; there is no command, so they run until one fails, all have ended, or "
                        "Ctrl-C is pressed");
  const auto has_ended = [](const auto& member) { return member->state == State::kEnded; };
  if ((last_code_ && *last_code_ != 0) || std::all_of(members_.begin(), members_.end(), has_ended))
    over_.set();
  over_.wait();
  if (!first_signal_) return last_code_.value_or(0);
  if (members_.size() > 1) return 128 + first_signal_;
  stop_all();
  return shell_code(members_.front()->executor->exit_code().value_or(0));
}

void Session::stop(Member& member) {
  for (Member* other : member.before) other->stopped.wait();
  try {
    const bool told = member.state != State::kReady;
    try {
      member.executor->stop();
    } catch (const StopError& error) {
      if (error.unkilled() > 0 || !error.exit_code())
        voice_.say(member.service.name + ": " + for_users(error.what()));
      else if (!told)
        voice_.note(member.service.name + " " + detail::describe_exit(*error.exit_code()) +
                    " when it was stopped");
    }
  } catch (const std::exception& error) {
    voice_.say(member.service.name + ": " + for_users(error.what()));
  }
  member.stopped.set();
}

void Session::stop_all() {
  if (phase_ == Phase::kStop) return;
  phase_ = Phase::kStop;
  watchers_->cancel();
  watchers_->join();
  TaskGroup group;
  for (const auto& member : members_) group.spawn([this, &member] { stop(*member); });
  group.join();
  for (const auto& member : members_)
    if (member->reader.valid()) member->reader.join();
}

void Session::hurry() {
  for (const auto& member : members_)
    if (member->started())
      watchers_->spawn([&executor = *member->executor] {
        try {
          executor.kill();
        } catch (const StopError&) {  // stop() tells that
        }
      });
}

void Session::listen() {
  for (;;) on_signal(signals_.wait());
}

void Session::on_signal(const signalfd_siginfo& info) {
  const int number = static_cast<int>(info.ssi_signo);
  if (number == SIGCHLD) {
    const Foreground::Change change = command_.look();
    if (change == Foreground::Change::kStopped) signals_.stop_self();
    if (change == Foreground::Change::kEnded) over_.set();
  } else if (number == SIGCONT) {
    command_.signal(SIGCONT);
  } else if (number == SIGTSTP) {
    // A command that stops takes the program with it; it may do without.
    if (!command_.running())
      signals_.stop_self();
    else if (info.ssi_code != SI_KERNEL)
      command_.signal(SIGTSTP);
  } else {
    on_request(info);
  }
}

void Session::on_request(const signalfd_siginfo& info) {
  const int number = static_cast<int>(info.ssi_signo);
  ++signal_count_;
  if (!first_signal_) first_signal_ = number;
  if (phase_ == Phase::kStart) {
    if (starting_) starting_->cancel();
  } else if (phase_ == Phase::kStop) {
    if (signal_count_ > 1) hurry();
  } else if (options_.command.empty()) {
    over_.set();
  } else {
    // The terminal's driver has sent it to the whole group.
    if (info.ssi_code != SI_KERNEL) command_.signal(number);
    if (number == SIGINT && killing_) command_.signal(SIGKILL);
    if ((number == SIGTERM || number == SIGHUP) && !std::exchange(killing_, true))
      watchers_->spawn([this] {
        sleep(options_.grace);
        command_.signal(SIGKILL);
      });
  }
}

int Session::run() {
  watchers_.emplace();
  const Fiber<> listener = spawn([this] { listen(); });
  int code = kExecFailed;
  if (start_all()) {
    phase_ = Phase::kRun;
    code = options_.command.empty() ? run_until_end() : run_command();
  } else if (first_signal_) {
    code = 128 + first_signal_;
  }
  stop_all();
  listener.cancel();
  listener.join();
  watchers_->join();
  return code;
}

}  // namespace

int run_services(ExecOptions options) {
  return Session(options).run();
}

}  // namespace weft::process
