// Actors: objects that handle messages one at a time, each in a fiber of its own.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "weft/detail/actor.hpp"
#include "weft/detail/actor_timer.hpp"
#include "weft/detail/io.hpp"
#include "weft/fiber.hpp"
#include "weft/future.hpp"
#include "weft/mailbox.hpp"

namespace weft {

/// The actor has stopped, or stopped before it came to the message.
class ActorDead : public std::runtime_error {
 public:
  explicit ActorDead(const char* what = "the actor has stopped") : std::runtime_error(what) {}
};

/// The actor's mailbox has no room for the message.
class MailboxFull : public std::runtime_error {
 public:
  explicit MailboxFull(const char* what = "the actor's mailbox is full") : std::runtime_error(what) {}
};

/// How an actor is made.
struct ActorOptions {
  /// The fiber's: shown by dumps and debuggers.
  std::string_view name = {};
  /// How many messages may wait, and what sending another does then.
  Mailbox mailbox = {};
  /// As in SpawnOptions.
  size_t stack_size = 0;
};

template <typename T>
class Actor;
template <typename T>
class ActorRef;

namespace detail {

template <typename T>
class ActorOf;

/// Starts run(actor) in a fiber.
class ActorTask final : public Task {
 public:
  explicit ActorTask(Ref<ActorCore> actor) noexcept : Task(&run, &destroy), actor_(std::move(actor)) {}

 private:
  static void run(Task& task) noexcept {
    static_cast<ActorTask&>(task).actor_->run();
    task.complete();
  }
  static void destroy(Completion& self) noexcept {
    auto* task = static_cast<ActorTask*>(&self);
    task->dispose();
    delete task;
  }

  Ref<ActorCore> actor_;
};

inline std::exception_ptr refusal(Refusal why) noexcept {
  switch (why) {
    case Refusal::kDropped:
      return std::make_exception_ptr(MailboxFull());
    case Refusal::kExpired:
      return std::make_exception_ptr(Timeout("a message to an actor, which did not come to it"));
    case Refusal::kStopped:
      break;
  }
  return std::make_exception_ptr(ActorDead("the actor stopped before handling the message"));
}

template <typename T>
struct TypedMessage : Message {
  Handled (*handle)(TypedMessage& self, ActorOf<T>& actor) noexcept = nullptr;
};

template <typename T, typename F, typename R>
struct CallMessage final : TypedMessage<T> {
  CallMessage(F&& f, bool asked) : function(std::move(f)) {
    if (asked) promise.emplace();
    this->type = &kType;
    this->handle = [](TypedMessage<T>& base, ActorOf<T>& actor) noexcept {
      auto* self = static_cast<CallMessage*>(&base);
      const Handled how = self->perform(actor);
      delete self;
      return how;
    };
  }

  Handled perform(ActorOf<T>& actor) noexcept {
    try {
      if constexpr (std::is_void_v<R>) {
        function(actor.object());
        if (promise) promise->set();
      } else if (promise) {
        promise->set(function(actor.object()));
      } else {
        static_cast<void>(function(actor.object()));
      }
    } catch (...) {
      if (!promise) {
        actor.error = std::current_exception();
        return Handled::kFailed;
      }
      promise->set_exception(std::current_exception());
    }
    return Handled::kDone;
  }

  F function;
  std::optional<Promise<R>> promise;

  static constexpr MessageType kType{[](Message& base, ActorCore&, Refusal why) noexcept {
                                       auto* self = static_cast<CallMessage*>(&base);
                                       if (self->promise) self->promise->set_exception(refusal(why));
                                       delete self;
                                     },
                                     nullptr};
};

template <typename T>
struct StopMessage final : TypedMessage<T> {
  StopMessage() { this->type = &kType; }

  Promise<bool> promise;

  static void answer(Message& base, ActorCore&) noexcept {
    auto* self = static_cast<StopMessage*>(&base);
    self->promise.set(true);
    delete self;
  }
  static constexpr MessageType kType{
      [](Message& base, ActorCore& actor, Refusal) noexcept { answer(base, actor); }, &answer};
};

template <typename T>
class ActorOf final : public ActorCore {
 public:
  template <typename... Args>
  explicit ActorOf(const Mailbox& mailbox, Args&&... args) : ActorCore(kType, &destroy, mailbox) {
    object_.emplace(std::forward<Args>(args)...);
    if constexpr (std::is_base_of_v<Actor<T>, T>) static_cast<Actor<T>&>(*object_).core_ = this;
  }

  T& object() noexcept { return *object_; }
  std::exception_ptr error;  // what the last message failed with

 private:
  // Calls a hook, if T has it. False: it threw.
  template <typename F>
  bool call_hook(F&& hook) noexcept {
    try {
      hook(object());
      return true;
    } catch (...) {
      report(std::current_exception());
      return false;
    }
  }

  static void report(const std::exception_ptr& failure) noexcept {
    const Task* task = Task::current();
    if (!task) return;
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& exception) {
      report_unhandled(*task, typeid(exception).name(), exception.what());
    } catch (...) {
      report_unhandled(*task, nullptr, "");
    }
  }

  static constexpr ActorType kType{
      .turn = 1'000'000,
      .lost_at_fork = true,
      .enter = [](ActorCore&) noexcept {},
      .leave = [](ActorCore&) noexcept {},
      .begin =
          [](ActorCore& self) noexcept {
            return static_cast<ActorOf&>(self).call_hook([](T& object) {
              if constexpr (requires { object.on_start(); }) object.on_start();
            });
          },
      .handle =
          [](ActorCore& self, Message& message) noexcept {
            auto& typed = static_cast<TypedMessage<T>&>(message);
            return typed.handle(typed, static_cast<ActorOf&>(self));
          },
      .failed =
          [](ActorCore& core) noexcept {
            auto& self = static_cast<ActorOf&>(core);
            const std::exception_ptr failure = std::exchange(self.error, nullptr);
            if constexpr (requires(T & object) { object.on_failure(failure); })
              self.call_hook([&](T& object) { object.on_failure(failure); });
            else
              report(failure);
          },
      .end =
          [](ActorCore& self) noexcept {
            static_cast<ActorOf&>(self).call_hook([](T& object) {
              if constexpr (requires { object.on_stop(); }) object.on_stop();
            });
          },
      .discard = [](ActorCore& self) noexcept { static_cast<ActorOf&>(self).object_.reset(); },
  };
  static void destroy(Completion& self) noexcept { delete static_cast<ActorOf*>(&self); }

  std::optional<T> object_;
};

}  // namespace detail

/// A message that ActorRef::tell_after() or tell_every() sends later; copies refer to the same. When the last
/// goes it is sent all the same. Any thread.
class MessageTimer {
 public:
  MessageTimer() noexcept = default;
  /// Nothing more is sent. False if nothing more would have been. What is being sent right now may come
  /// still.
  bool cancel() const noexcept { return timer_ && detail::actor_timer_cancel(*timer_); }

 private:
  template <typename>
  friend class ActorRef;
  explicit MessageTimer(detail::ActorTimer* timer)
      : timer_(timer, [](detail::ActorTimer* t) { detail::actor_timer_release(*t); }) {}

  std::shared_ptr<detail::ActorTimer> timer_;
};

/// An actor, to be handed round and sent messages to; copies refer to the same. The actor lives until it is
/// stopped, whether or not a reference to it is left. Any thread or fiber.
template <typename T>
class ActorRef {
 public:
  ActorRef() noexcept = default;

  /// False for one that was default-constructed: then no other function may be called (std::logic_error).
  bool valid() const noexcept { return static_cast<bool>(core_); }

  /// Has the actor call function(object, args...), and returns a future of what that returns or throws. The
  /// arguments are moved or copied into the message; what comes back is no reference. The future throws
  /// ActorDead if the actor has stopped, or stops before it comes to the message; MailboxFull if the message
  /// was dropped. Throws MailboxFull if the mailbox is full and raises. Waits, cancellably, for a full
  /// mailbox that blocks.
  ///
  ///     weft::Future<int> sum = counter.ask(&Counter::add, 3);
  template <typename F, typename... Args>
  auto ask(F&& function, Args&&... args) const {
    return ask_as(false, detail::kNever, std::forward<F>(function), std::forward<Args>(args)...);
  }
  /// ask() with a deadline: `span` from now the answer is Timeout, if the actor has not come to the message;
  /// if it is at it, the function's cancellable waits throw Timeout.
  template <typename Rep, typename Period, typename F, typename... Args>
  auto ask_within(std::chrono::duration<Rep, Period> span, F&& function, Args&&... args) const {
    return ask_as(false, detail::deadline_after(span), std::forward<F>(function),
                  std::forward<Args>(args)...);
  }
  /// The same, before all messages that are not urgent.
  template <typename F, typename... Args>
  auto ask_urgently(F&& function, Args&&... args) const {
    return ask_as(true, detail::kNever, std::forward<F>(function), std::forward<Args>(args)...);
  }

  /// Has it called, and does not wait for what comes of it: what it throws is a failure of the actor, which
  /// stops. Throws ActorDead if the actor has stopped.
  template <typename F, typename... Args>
  void tell(F&& function, Args&&... args) const {
    auto message = make<F, Args...>(false, std::forward<F>(function), std::forward<Args>(args)...);
    const detail::Outcome outcome = core().send(*message, detail::kNever, false);
    if (outcome == detail::Outcome::kReady) {
      message.release();
      return;
    }
    if (outcome == detail::Outcome::kClosed) throw ActorDead();
    refuse(outcome);
  }

  /// tell(), after `span`. Throws std::system_error if there is no memory for it. What cannot be sent then,
  /// because the actor has stopped or its mailbox is full, is dropped.
  template <typename Rep, typename Period, typename F, typename... Args>
  MessageTimer tell_after(std::chrono::duration<Rep, Period> span, F&& function, Args&&... args) const {
    return tell_later(detail::deadline_after(span), 0, std::forward<F>(function),
                      std::forward<Args>(args)...);
  }
  /// tell(), every `period`, for the first time after one, until it is cancelled or the actor has stopped.
  /// Function and arguments are copied for each. Where the thread is late by whole periods, those are left
  /// out. std::invalid_argument if the period is not above zero.
  template <typename Rep, typename Period, typename F, typename... Args>
  MessageTimer tell_every(std::chrono::duration<Rep, Period> period, F&& function, Args&&... args) const {
    const detail::Nanos nanos = detail::limit_of(period);
    if (nanos == 0) throw std::invalid_argument("weft::ActorRef::tell_every: the period must be above zero");
    return tell_later(detail::deadline_after(period), nanos, std::forward<F>(function),
                      std::forward<Args>(args)...);
  }

  /// Asks it to stop once it has handled what was sent before. True when it has stopped; false if it had.
  Future<bool> stop() const { return stop_as(false); }
  /// After the message that it handles now.
  Future<bool> stop_urgently() const { return stop_as(true); }

  /// Can it be sent messages? It may stop at any moment.
  bool alive() const { return core().alive(); }
  /// Waits until it has stopped and everything that it was sent is handled or refused. Cancellable. Not in
  /// the actor itself.
  void join() const {
    if (core().runs_here()) detail::raise(detail::Outcome::kSelf);
    detail::raise(core().wait(detail::kNever, detail::kCancellable, "ActorRef::join"));
  }
  ActorStatistics statistics() const { return core().statistics(); }

  bool operator==(const ActorRef& other) const noexcept { return core_.get() == other.core_.get(); }

 private:
  friend class Actor<T>;
  explicit ActorRef(detail::Ref<detail::ActorOf<T>> core) noexcept : core_(std::move(core)) {}

  detail::ActorOf<T>& core() const {
    if (!core_) throw std::logic_error("this ActorRef is empty: assign what Actor::start() returned to it");
    return *core_;
  }

  template <typename F, typename... Args>
  MessageTimer tell_later(detail::Nanos first, detail::Nanos period, F&& function, Args&&... args) const {
    auto call = call_of<F, Args...>(std::forward<F>(function), std::forward<Args>(args)...);
    using Call = decltype(call);
    using R = std::invoke_result_t<Call&, T&>;
    auto kept = std::make_unique<Call>(std::move(call));
    const detail::TimerSource source{
        [](void* argument) noexcept -> detail::Message* {
          try {
            return new detail::CallMessage<T, Call, R>(Call(*static_cast<Call*>(argument)), false);
          } catch (...) {
            return nullptr;  // no memory: not this time
          }
        },
        [](void* argument) noexcept { delete static_cast<Call*>(argument); }, kept.get()};
    detail::ActorTimer* timer = detail::actor_timer_start(core(), first, period, source);
    if (!timer) detail::throw_errno(errno, "weft::ActorRef: no memory or no thread for a timer");
    kept.release();
    return MessageTimer(timer);
  }

  template <typename F, typename... Args>
  static auto call_of(F&& function, Args&&... args) {
    return [f = std::decay_t<F>(std::forward<F>(function)),
            all = std::tuple<std::decay_t<Args>...>(std::forward<Args>(args)...)](T& object) mutable {
      return std::apply(
          [&](auto&... each) -> decltype(auto) {
            return std::invoke(std::move(f), object, std::move(each)...);
          },
          all);
    };
  }

  template <typename F, typename... Args>
  static auto make(bool asked, F&& function, Args&&... args) {
    auto call = call_of<F, Args...>(std::forward<F>(function), std::forward<Args>(args)...);
    using Call = decltype(call);
    using R = std::invoke_result_t<Call&, T&>;
    return std::make_unique<detail::CallMessage<T, Call, R>>(std::move(call), asked);
  }

  template <typename F, typename... Args>
  auto ask_as(bool urgent, detail::Nanos deadline, F&& function, Args&&... args) const {
    auto message = make<F, Args...>(true, std::forward<F>(function), std::forward<Args>(args)...);
    message->deadline = deadline;
    auto future = message->promise->future();
    const detail::Outcome outcome = core().send(*message, detail::kNever, urgent);
    if (outcome == detail::Outcome::kReady) {
      message.release();
    } else if (outcome == detail::Outcome::kClosed) {
      message->promise->set_exception(std::make_exception_ptr(ActorDead()));
    } else {
      refuse(outcome);
    }
    return future;
  }

  Future<bool> stop_as(bool urgent) const {
    auto message = std::make_unique<detail::StopMessage<T>>();
    auto future = message->promise.future();
    const detail::Outcome outcome = core().send(*message, detail::kNever, urgent);
    if (outcome == detail::Outcome::kReady) {
      message.release();
    } else if (outcome == detail::Outcome::kClosed) {
      message->promise.set(false);
    } else {
      refuse(outcome);
    }
    return future;
  }

  [[noreturn]] static void refuse(detail::Outcome outcome) {
    if (outcome == detail::Outcome::kSelf)
      throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                              "an actor's own mailbox is full, and it would wait for room in it");
    detail::raise(outcome);
    throw MailboxFull();
  }

  detail::Ref<detail::ActorOf<T>> core_;
};

/// Makes actors of T, any class; and, as a base of T, tells it its own reference.
///
///     class Counter : public weft::Actor<Counter> {
///      public:
///       int add(int n) { return sum_ += n; }
///
///      private:
///       int sum_ = 0;
///     };
///     weft::ActorRef<Counter> counter = Counter::start();
///     int sum = counter.ask(&Counter::add, 3).get();
///     counter.stop().wait();
///
/// Hooks, each if T has it, public: on_start(), before the first message, where a throw stops the actor;
/// on_stop(), when it was asked to stop; on_failure(std::exception_ptr), and not on_stop(), when it stops
/// because a message that was told, not asked, threw. Without the last the failure is reported as one of a
/// fiber is (set_unhandled_handler()). The object is made where start() is called, and destroyed in the
/// actor's fiber.
template <typename T>
class Actor {
 public:
  /// Makes an actor with these arguments and starts it. Throws what T's constructor throws, std::system_error
  /// if there is no memory for a fiber.
  template <typename... Args>
  requires std::is_constructible_v<T, Args...>
  static ActorRef<T> start(Args&&... args) { return start_with(ActorOptions{}, std::forward<Args>(args)...); }
  template <typename... Args>
  static ActorRef<T> start_with(const ActorOptions& options, Args&&... args) {
    auto core = detail::Ref<detail::ActorOf<T>>::adopt(
        new detail::ActorOf<T>(options.mailbox, std::forward<Args>(args)...));
    const auto task = detail::Ref<detail::ActorTask>::adopt(
        new detail::ActorTask(detail::Ref<detail::ActorCore>::share(*core)));
    core->enlist();
    if (const int error =
            task->start({options.name.data(), options.name.size(), options.stack_size, -1, {}})) {
      core->abandon();
      detail::throw_errno(error, "weft::Actor::start: no memory for another fiber");
    }
    return ActorRef<T>(std::move(core));
  }

 protected:
  Actor() noexcept = default;
  ~Actor() = default;

  /// The actor's own reference; not in its constructor.
  ActorRef<T> self() const {
    if (!core_)
      throw std::logic_error("weft::Actor::self(): not an actor yet, in its constructor: use on_start()");
    return ActorRef<T>(detail::Ref<detail::ActorOf<T>>::share(*core_));
  }

 private:
  friend class detail::ActorOf<T>;

  detail::ActorOf<T>* core_ = nullptr;
};

}  // namespace weft
