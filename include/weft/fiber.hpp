// Fibers: spawn() and what becomes of it.
#pragma once

#include <concepts>
#include <exception>
#include <functional>
#include <optional>
#include <source_location>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "weft/detail/task.hpp"
#include "weft/error.hpp"

namespace weft {

/// How spawn() makes a fiber. What is out of range it throws for, and nothing was run then.
struct SpawnOptions {
  /// Shown by dumps, debuggers and reports; need not be unique.
  std::string_view name = {};
  /// Bytes, at least 16 KiB (std::invalid_argument); 0: the runtime's (1 MiB of addresses, of which only what
  /// is touched is used).
  size_t stack_size = 0;
  /// The carrier it runs on, by number, below Runtime::report().carriers (std::system_error with EINVAL);
  /// kAny: any, whichever is first free.
  int carrier = kAny;
  static constexpr int kAny = -1;
};

namespace detail {

template <typename R>
struct ResultOf {
  std::optional<R> value;
  template <typename F>
  void run(F& function) {
    value.emplace(std::invoke(function));
  }
};
template <typename R>
struct ResultOf<R&> {
  R* value = nullptr;
  template <typename F>
  void run(F& function) {
    value = &std::invoke(function);
  }
};
template <>
struct ResultOf<void> {
  template <typename F>
  void run(F& function) {
    std::invoke(function);
  }
};

class FailingTask : public Task {
 public:
  using Task::Task;
  std::exception_ptr error;  // unless it returned
};

template <typename R>
class TaskResult : public FailingTask {
 public:
  using FailingTask::FailingTask;
  ResultOf<R> result;
};

template <typename R, typename F>
class TaskOf final : public TaskResult<R> {
 public:
  explicit TaskOf(F&& function) : TaskResult<R>(&run, &destroy), function_(std::move(function)) {}

 private:
  static void run(Task& task) noexcept {
    auto& self = static_cast<TaskOf&>(task);
    try {
      if (self.cancel_requested()) throw Cancelled();  // before it began
      self.result.run(*self.function_);
    } catch (const Cancelled&) {
      self.end = Task::End::kCancelled;
      self.error = std::current_exception();
    } catch (...) {
      self.end = Task::End::kThrew;
      self.error = std::current_exception();
    }
    try {
      self.function_.reset();  // what it holds is let go where it ran, not by the last who has a handle
    } catch (...) {
    }
    self.complete();
  }

  static void destroy(Completion& completion) noexcept {
    auto* self = static_cast<TaskOf*>(&completion);
    if (self->end == Task::End::kThrew && !self->observed()) report(*self);
    self->dispose();
    delete self;
  }

  static void report(const TaskOf& self) noexcept {
    try {
      std::rethrow_exception(self.error);
    } catch (const std::exception& error) {
      report_unhandled(self, typeid(error).name(), error.what());
    } catch (...) {
      report_unhandled(self, nullptr, "");
    }
  }

  std::optional<F> function_;
};

}  // namespace detail

/// A handle to a fiber that was spawned; copies are handles to the same. R is what its function returns. When
/// the last handle goes the fiber runs on; if it fails, and nobody ever asks for its result, the failure is
/// reported once, with the place it was spawned at. Any thread, as all its functions.
template <typename R = void>
class Fiber {
 public:
  Fiber() noexcept = default;

  /// False for a handle that was default-constructed: then no other function may be called
  /// (std::logic_error).
  bool valid() const noexcept { return static_cast<bool>(task_); }

  /// Waits until it has ended; any number may wait, any number of times. Cancellable. A fiber that waits for
  /// itself: std::system_error(resource_deadlock_would_occur).
  void join() const { detail::raise(task().join(detail::kNever, detail::kCancellable)); }

  /// False if it has not ended after `span`.
  template <typename Rep, typename Period>
  bool join_for(std::chrono::duration<Rep, Period> span) const {
    const detail::Outcome outcome = task().join(detail::deadline_after(span), detail::kCancellable);
    detail::raise(outcome);
    return outcome == detail::Outcome::kReady;
  }

  /// join(), then what the function returned, or throws what it threw; Cancelled if it ended by that. The
  /// value stays in the fiber: a reference is returned, good as long as there is a handle.
  std::add_lvalue_reference_t<R> result() const {
    join();
    task_->observe();
    if (task_->error) std::rethrow_exception(task_->error);
    if (task_->end == detail::Task::End::kCancelled) throw Cancelled();  // it did not survive a fork
    if constexpr (std::is_void_v<R>)
      return;
    else
      return *task_->result.value;
  }

  /// join(), then what it threw, or null.
  std::exception_ptr exception() const {
    join();
    task_->observe();
    return task_->error;
  }

  /// Asks it to end: its present or next cancellable wait throws Cancelled, and every later one. Returns at
  /// once; nothing happens if it has ended. One that has not begun does not call its function.
  void cancel() const { task().cancel(); }
  bool cancel_requested() const { return task().cancel_requested(); }

  bool done() const { return task().done(); }
  /// Unlike any other's of the process so far.
  uint64_t id() const { return task().id(); }
  std::string_view name() const { return task().name(); }

  /// Has `function()` called when it is done: by the fiber itself, at its end, or at once, by the caller. It
  /// must not wait; what it throws ends the program.
  template <std::invocable F>
  void on_done(F&& function) const {
    detail::call_when_done(task(), std::forward<F>(function));
  }

  detail::TaskResult<R>& task() const {
    if (!task_) throw std::logic_error("this Fiber handle is empty: assign what spawn() returned to it");
    return *task_;
  }

 private:
  template <typename F>
  friend auto spawn(F&& function, const SpawnOptions& options, std::source_location where)
      -> Fiber<std::invoke_result_t<std::decay_t<F>>>;
  explicit Fiber(detail::TaskResult<R>* task) noexcept
      : task_(detail::Ref<detail::TaskResult<R>>::adopt(task)) {}

  detail::Ref<detail::TaskResult<R>> task_;
};

/// Runs `function()` in a new fiber, soon; the caller goes on. Starts the runtime on the calling thread if
/// there is none yet. Any thread. Throws std::system_error if there is no memory for a stack, or no such
/// carrier.
template <typename F>
auto spawn(F&& function, const SpawnOptions& options = {},
           std::source_location where = std::source_location::current())
    -> Fiber<std::invoke_result_t<std::decay_t<F>>> {
  using R = std::invoke_result_t<std::decay_t<F>>;
  constexpr const char* kNoCarrier = "weft::spawn: there is no carrier of that number";
  if (options.stack_size && options.stack_size < detail::kMinStackSize)
    throw std::invalid_argument("weft::spawn: stack_size must be 16384 or more, or 0 for the runtime's");
  if (options.carrier < SpawnOptions::kAny) detail::throw_errno(EINVAL, kNoCarrier);
  auto* task = new detail::TaskOf<R, std::decay_t<F>>(std::decay_t<F>(std::forward<F>(function)));
  Fiber<R> fiber(task);
  const int error = task->start({options.name.data(),
                                 options.name.size(),
                                 options.stack_size,
                                 options.carrier,
                                 {where.file_name(), where.function_name(), where.line()}});
  if (error == EINVAL) detail::throw_errno(error, kNoCarrier);
  if (error) detail::throw_errno(error, "weft::spawn: no memory for another fiber");
  return fiber;
}

/// A failure of a fiber that nobody asked for.
struct Unhandled {
  std::string_view name;  ///< the fiber's
  uint64_t id;
  std::string_view file;  ///< where it was spawned
  unsigned line;
  std::string_view function;
  std::string_view type;  ///< of the exception, as in std::type_info::name(); "" if it is no std::exception
  std::string_view what;
};

/// What to do with such failures instead of writing them to standard error; null: that. The function may be
/// called on any thread, several times at once; it must not throw. Returns the former one. Any thread.
using UnhandledHandler = void (*)(const Unhandled& failure) noexcept;
WEFT_API UnhandledHandler set_unhandled_handler(UnhandledHandler handler) noexcept;

namespace detail {
WEFT_API Outcome sleep_until(Nanos deadline) noexcept;
WEFT_API void yield() noexcept;
WEFT_API bool in_fiber() noexcept;
}  // namespace detail

/// The calling fiber. On a thread that runs none, waits block the thread and nothing is ever cancelled.
namespace this_fiber {

/// Lets every other fiber of the carrier that is ready run first. Not a cancellation point.
inline void yield() noexcept {
  detail::yield();
}

/// Throws Cancelled if the fiber was asked to end, Timeout if a TimeoutScope has expired. For long
/// computations, and after a C function that failed because a wait in it was cancelled.
inline void check() {
  detail::raise(detail::revocation());
}

/// Is the caller a fiber? False on native threads.
inline bool exists() noexcept {
  return detail::in_fiber();
}

/// 0 and "" where the caller was not spawned: on main threads and natives.
inline uint64_t id() noexcept {
  const detail::Task* task = detail::Task::current();
  return task ? task->id() : 0;
}
inline std::string_view name() noexcept {
  const detail::Task* task = detail::Task::current();
  return task ? task->name() : "";
}

}  // namespace this_fiber

/// Sleeps; cancellable. A span of zero or less lets others run.
template <typename Rep, typename Period>
void sleep(std::chrono::duration<Rep, Period> span) {
  detail::raise(detail::sleep_until(detail::deadline_after(span)));
}
template <typename Clock, typename Duration>
void sleep_until(const std::chrono::time_point<Clock, Duration>& time) {
  detail::raise(detail::sleep_until(detail::deadline_at(time)));
}

}  // namespace weft
