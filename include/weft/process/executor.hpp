// Executor: a command that is started, awaited, and ended with all that descends from it.
#pragma once

#include <sys/wait.h>

#include <atomic>
#include <optional>

#include "weft/detail/process_request.hpp"
#include "weft/process/command.hpp"
#include "weft/process/errors.hpp"
#include "weft/process/options.hpp"
#include "weft/process/readiness.hpp"
#include "weft/process/streams.hpp"
#include "weft/timeout.hpp"

namespace weft::process {

/// Whom a signal goes to.
using Scope = detail::ChildScope;

/// Runs a command, once at a time, any number of times.
///
///     weft::process::Executor redis("redis-server --port 7000", {}, Readiness::tcp("127.0.0.1", 7000));
///     redis.start();
///     ...
///     redis.stop();
///
/// Whatever the command starts belongs to it, however it detaches itself, and ends with it: by stop(), by
/// kill(), with the Executor, and when the program ends in whatever way.
///
/// For fibers, and native threads. start() suspends or blocks the caller until the command is ready; while
/// one calls start(), moves, or destroys it, nobody else may use it. All else may be called by several at the
/// same time, stop() beside wait() too. In a fork child of the program it does nothing to the command, which
/// is not its own there.
class Executor {
 public:
  /// Starts nothing. std::invalid_argument names an option that is wrong and what is expected: an empty
  /// command, a negative time, a NUL in a text, a number that is no signal or descriptor.
  explicit Executor(Command command, Options options = {}, Readiness readiness = {})
      : options_(std::move(options)), readiness_(std::move(readiness)), name_(command.text()) {
    arguments_ = command.arguments(options_.shell);
    detail::check_options(options_);
    if (readiness_.condition() && readiness_.condition()->needs_output() &&
        options_.standard_output.value() != detail::kToPipe &&
        options_.standard_error.value() != detail::kToPipe)
      throw std::invalid_argument(
          "weft::process: readiness waits for output, but neither standard output nor standard error is a "
          "pipe; expected StreamTo::pipe() for one of them");
  }
  Executor(Executor&& other) noexcept = default;
  Executor& operator=(Executor&& other) noexcept {
    if (this == &other) return *this;
    discard();
    options_ = std::move(other.options_);
    readiness_ = std::move(other.readiness_);
    name_ = std::move(other.name_);
    arguments_ = std::move(other.arguments_);
    child_ = std::move(other.child_);
    stopped_ = other.stopped_;
    told_end_ = other.told_end_;
    output_ = std::move(other.output_);
    errors_ = std::move(other.errors_);
    return *this;
  }
  /// Kills the whole tree and waits until it is gone, some milliseconds. Not a cancellation point.
  ~Executor() { discard(); }

  /// Looks whether what the command provides is there already; starts it; returns once it is ready. Nothing
  /// happens while it is running(). A cancellation point. However it fails, the whole tree has been killed
  /// when it throws.
  ///
  /// AlreadyRunning, NotStarted, ExitedEarly (at once when the command exits with another code than 0, or by
  /// a signal, or when output is awaited and all of it has ended), StartTimeout. A command that exits with 0
  /// has perhaps left a daemon, and is waited for until the timeout. What Readiness::custom() and
  /// Options::on_progress throw passes through.
  Executor& start() {
    if (running()) return *this;
    discard();
    if (const detail::Condition* condition = readiness_.condition())
      if (const std::string there = condition->present(); !there.empty()) throw AlreadyRunning(name_, there);
    const detail::Nanos begin = detail::now();
    const detail::Nanos deadline = detail::deadline_after(options_.timeout);
    launch(deadline);
    try {
      if (const detail::Condition* condition = readiness_.condition())
        become_ready(*condition, begin, deadline);
    } catch (...) {
      kill_quietly();
      throw;
    }
    return *this;
  }

  /// Sends Options::stop_signal to the command's group, then to what it leaves behind; after Options::grace
  /// the kill_signal to all that is left. Returns when nothing is. Does nothing if it was not started, or was
  /// stopped before. A cancellation point, but the tree is gone all the same: a caller that is cancelled cuts
  /// the grace short. StopError: the command's exit code is not an expected one, or there are processes that
  /// could not be killed.
  void stop() { end(options_.stop_signal, options_.grace); }
  /// The same with Options::kill_signal, without grace where that is SIGKILL. The exit code may be any.
  void kill() {
    if (!child_) return;
    std::atomic_ref(stopped_).store(true);
    end_by(options_.kill_signal, options_.kill_signal == SIGKILL ? 0 : options_.grace.count());
    await_gone();
    check_killed();
  }

  /// Does the command run, or, after it has exited with 0, something that it left behind?
  bool running() const noexcept {
    if (!child_) return false;
    const detail::ChildState state = detail::child_state(child_.get());
    return !state.foreign && !state.gone && (!state.exited || state.status == 0);
  }
  /// Was its end asked for, by stop() or kill(), since the last start?
  bool stopped() const noexcept { return std::atomic_ref(const_cast<bool&>(stopped_)).load(); }
  /// Of the command itself, as of the last start; -1: there was none. After its exit the number may be
  /// another process's.
  pid_t pid() const noexcept { return child_ ? detail::child_state(child_.get()).pid : -1; }
  /// Of the command itself; a negative number: the signal by which it ended. None: it runs, or was not
  /// started.
  std::optional<int> exit_code() const noexcept {
    if (!child_) return std::nullopt;
    const detail::ChildState state = detail::child_state(child_.get());
    return state.exited ? std::optional(detail::exit_code_of(state.status)) : std::nullopt;
  }

  /// Waits for the exit of the command itself, and returns its exit_code(). A cancellation point, at which
  /// nothing happens to the command. std::logic_error: it was not started.
  int wait() const { return *wait_until(detail::kNever); }
  /// None: it still runs after `span`.
  template <typename Rep, typename Period>
  std::optional<int> wait_for(std::chrono::duration<Rep, Period> span) const {
    return wait_until(detail::deadline_after(span));
  }

  /// Sends a signal to the command itself, its process group, or all that descends from it. Never waits.
  /// std::system_error: ESRCH: there is nothing to be signalled any more; ECHILD: it is of another process;
  /// EINVAL.
  void signal(int number, Scope scope = Scope::kCommand) const {
    const int error = number < 1 || number > SIGRTMAX ? EINVAL
                      : child_                        ? detail::signal_child(child_.get(), number, scope)
                                                      : ESRCH;
    if (error) detail::throw_errno(error, "weft::process::Executor::signal");
  }

  /// What the command writes, read from its last start on. Anew after start().
  OutputReader& output() noexcept { return output_; }
  OutputReader& errors() noexcept { return errors_; }
  /// What it reads.
  InputWriter input() const noexcept { return InputWriter(child_); }

  /// The command, for messages.
  const std::string& name() const noexcept { return name_; }
  const Options& options() const noexcept { return options_; }
  /// The last lines of what it has written, of both streams if both are pipes. Never waits.
  std::string last_output(size_t lines = kLastLines) const {
    std::string text = OutputReader(child_, 1).tail(lines);
    const std::string errors = OutputReader(child_, 2).tail(lines);
    if (!text.empty() && !errors.empty() && text.back() != '\n') text += '\n';
    text += errors;
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }

 private:
  static constexpr size_t kLastLines = 20;
  static constexpr detail::Nanos kSecond = 1'000'000'000;
  static constexpr detail::Nanos kLeastLook = 1'000'000;

  void launch(detail::Nanos deadline) {
    detail::ChildFailure failure;
    detail::Outcome outcome;
    const detail::Request request(arguments_, options_);
    detail::Child* const child = detail::start_child(request.get(), deadline, failure, outcome);
    if (!child && outcome == detail::Outcome::kTimeout)
      throw StartTimeout(name_, "was not executed in time: raise Options::timeout", "", "");
    if (!child) {
      detail::raise(outcome);
      throw NotStarted(name_, detail::describe(failure, arguments_, options_), failure.error, failure.stage);
    }
    child_ = detail::ChildRef::adopt(child);
    stopped_ = told_end_ = false;
    output_ = OutputReader(child_, 1);
    errors_ = OutputReader(child_, 2);
  }

  void become_ready(const detail::Condition& condition, detail::Nanos begin, detail::Nanos deadline) {
    const std::unique_ptr<detail::Watch> watch = condition.watch(child_.get());
    detail::Nanos next_probe = begin, next_progress = begin + kSecond;
    bool had_exited = false;
    for (;;) {
      const uint32_t seen = detail::child_changes(child_.get());
      const detail::ChildState state = detail::child_state(child_.get());
      detail::Nanos now = detail::now();
      // An exit may make it true, too, so there is a look after it.
      detail::Round round{std::max(deadline - now, kLeastLook),
                          now >= next_probe || state.exited != had_exited};
      had_exited = state.exited;
      if (watch->look(round)) return;
      if (state.exited && state.status != 0) fail_early(*watch);
      if (watch->hopeless()) fail_early(*watch);
      now = detail::now();
      if (now >= deadline) fail_late(*watch);
      if (round.probe) next_probe = now + detail::probe_pause(now - begin, options_.probe_interval.count());
      if (now >= next_progress) {
        const std::string text = watch->seen();
        if (options_.on_progress) options_.on_progress({std::chrono::nanoseconds(now - begin), text});
        while (next_progress <= now) next_progress += kSecond;
      }
      const detail::Nanos until = std::min({deadline, next_progress, next_probe, round.again});
      const detail::Outcome outcome = detail::await_child(child_.get(), seen, until, detail::kCancellable);
      detail::raise(outcome);
    }
  }

  [[noreturn]] void fail_early(const detail::Watch& watch) {
    // The streams of one that ends are at their end a little before its exit is told.
    wait_until(detail::deadline_after(std::chrono::milliseconds(100)));
    const std::optional<int> code = exit_code();
    kill_quietly();
    throw ExitedEarly(name_,
                      (code ? detail::describe_exit(*code) + " before it was ready"
                            : std::string("closed its output before it was ready")) +
                          ": " + watch.seen(),
                      code, last_output());
  }
  [[noreturn]] void fail_late(const detail::Watch& watch) {
    const std::optional<int> code = exit_code();
    char places[256] = "";
    if (watch.seen().find("refuses connections") != std::string::npos)
      detail::child_places(child_.get(), places, sizeof places);
    kill_quietly();
    throw StartTimeout(
        name_,
        "was not ready after " + detail::describe_span(options_.timeout.count()) + ": " + watch.seen() +
            (code ? "; the command itself had exited with 0, as daemons do" : "; it was still running") +
            (*places ? std::string(", and listened at ") + places : "") +
            ". Raise Options::timeout if it needs longer",
        watch.seen(), last_output());
  }

  std::optional<int> wait_until(detail::Nanos deadline) const {
    if (!child_) throw std::logic_error("weft::process::Executor: wait() for a command that was not started");
    for (;;) {
      const uint32_t seen = detail::child_changes(child_.get());
      const detail::ChildState state = detail::child_state(child_.get());
      if (state.foreign) detail::throw_errno(ECHILD, "weft::process::Executor: of another process");
      if (state.exited) return detail::exit_code_of(state.status);
      const detail::Outcome outcome = detail::await_child(child_.get(), seen, deadline, detail::kCancellable);
      detail::raise(outcome);
      if (outcome == detail::Outcome::kTimeout) return exit_code();
    }
  }

  void end_by(int signal, detail::Nanos grace) const noexcept {
    detail::end_child(child_.get(), signal, grace);
  }

  // True once nothing is left; kTimeout or a revocation of the caller otherwise.
  detail::Outcome await_gone(detail::Nanos deadline = detail::kNever,
                             uint8_t flags = detail::kUncancellable) const noexcept {
    for (;;) {
      const uint32_t seen = detail::child_changes(child_.get());
      const detail::ChildState state = detail::child_state(child_.get());
      if (state.gone || state.foreign) return detail::Outcome::kReady;
      const detail::Outcome outcome = detail::await_child(child_.get(), seen, deadline, flags);
      if (outcome != detail::Outcome::kReady) return outcome;
    }
  }

  void kill_quietly() noexcept {
    if (!child_) return;
    end_by(SIGKILL, 0);
    await_gone();
  }
  void discard() noexcept {
    kill_quietly();
    child_ = {};
  }

  void end(int signal, std::chrono::nanoseconds grace) {
    if (!child_) return;
    const bool twice = options_.kill_signal != SIGKILL;
    const detail::Nanos until = detail::deadline_after(grace);
    const detail::ChildState before = detail::child_state(child_.get());
    if (before.foreign) return;
    std::atomic_ref(stopped_).store(true);
    end_by(signal, grace.count() > detail::kNever / 2 || !twice ? grace.count() : 2 * grace.count());
    detail::Outcome outcome = await_gone(twice ? until : detail::kNever, detail::kCancellable);
    if (outcome == detail::Outcome::kTimeout) {
      detail::signal_child(child_.get(), options_.kill_signal, Scope::kTree);
      outcome = await_gone(detail::kNever, detail::kCancellable);
    }
    if (outcome != detail::Outcome::kReady) {
      kill_quietly();
      detail::raise(outcome);
    }
    // Those who stop it at the same time all wait, and one is told.
    if (std::atomic_ref(told_end_).exchange(true)) return;
    check_killed();
    const int code = exit_code().value_or(0);
    const bool good = options_.expected_exit ? code == *options_.expected_exit
                                             : code == 0 || code == -signal || code == 128 + signal ||
                                                   code == -options_.kill_signal;
    if (!good)
      throw StopError(name_,
                      detail::describe_exit(code) + ", which is not expected (Options::expected_exit is " +
                          (options_.expected_exit ? std::to_string(*options_.expected_exit) : "not set") +
                          ")",
                      code, 0, last_output());
  }
  void check_killed() const {
    const detail::ChildState state = detail::child_state(child_.get());
    if (state.stuck > 0)
      throw StopError(name_,
                      "left " + std::to_string(state.stuck) + " processes that could not be killed, " +
                          std::to_string(state.stuck_pid) + " among them (" +
                          std::system_category().message(state.stuck_error) +
                          "): end them as the user whose they are",
                      exit_code(), state.stuck, last_output());
    if (state.lost)
      throw StopError(name_,
                      "was killed because its weft-keeper was: what the command had started itself may still "
                      "run; look for it with ps",
                      exit_code(), 0, last_output());
  }

  Options options_;
  Readiness readiness_;
  std::string name_;
  std::vector<std::string> arguments_;
  detail::ChildRef child_;
  bool stopped_ = false;   // for both: std::atomic_ref
  bool told_end_ = false;  // has stop() told how it ended?
  OutputReader output_, errors_;
};

}  // namespace weft::process
