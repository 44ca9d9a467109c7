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
#include <vector>

#include "weft/actor_options.hpp"
#include "weft/any_actor.hpp"
#include "weft/detail/actor_timer.hpp"
#include "weft/detail/io.hpp"
#include "weft/detail/typed_actor.hpp"
#include "weft/future.hpp"

namespace weft {

template <typename T>
class Actor;
template <typename T>
class ActorRef;

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
    tell_as(false, std::forward<F>(function), std::forward<Args>(args)...);
  }

  /// The same, before all messages that are not urgent.
  template <typename F, typename... Args>
  void tell_urgently(F&& function, Args&&... args) const {
    tell_as(true, std::forward<F>(function), std::forward<Args>(args)...);
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
  Future<bool> stop() const { return detail::stop(core(), false); }
  /// After the message that it handles now.
  Future<bool> stop_urgently() const { return detail::stop(core(), true); }

  /// Can it be sent messages? It may stop at any moment.
  bool alive() const { return core().alive(); }
  /// Waits until it has stopped and everything that it was sent is handled or refused. Cancellable. Not in
  /// the actor itself.
  void join() const {
    if (core().runs_here()) detail::raise(detail::Outcome::kSelf);
    detail::raise(core().wait(detail::kNever, detail::kCancellable, "ActorRef::join"));
  }
  /// Of a pool: the sums of all that it had.
  ActorStatistics statistics() const { return core().statistics(); }

  /// The actors of a pool that live, oldest first; of another actor, itself.
  std::vector<ActorRef> workers() const {
    std::vector<ActorRef> all;
    if (!core().pool()) return {*this};
    struct Visit {
      std::vector<detail::Ref<detail::ActorCore>> found;
      bool full = false;
    } visit;
    core().for_each_child(
        [](void* argument, detail::ActorCore& child) {
          auto& each = *static_cast<Visit*>(argument);
          try {
            each.found.push_back(detail::Ref<detail::ActorCore>::share(child));
          } catch (...) {
            each.full = true;
          }
        },
        &visit);
    if (visit.full) throw std::bad_alloc();
    for (auto& each : visit.found) all.push_back(ActorRef(std::move(each)));
    return all;
  }
  /// The actor of a pool that has that key: the same each time, as long as it lives. When it ends, only its
  /// keys move to others. Of another actor, itself. Throws ActorDead if the pool has none.
  template <typename Key>
  ActorRef worker(const Key& key) const {
    if (!core().pool()) return *this;
    detail::ActorCore* found = core().route(static_cast<uint64_t>(std::hash<Key>()(key)));
    if (!found) throw ActorDead();
    return ActorRef(detail::Ref<detail::ActorCore>::adopt(found));
  }

  bool operator==(const ActorRef& other) const noexcept { return core_.get() == other.core_.get(); }

 private:
  template <typename>
  friend class Actor;
  friend class AnyActorRef;
  explicit ActorRef(detail::Ref<detail::ActorCore> core) noexcept : core_(std::move(core)) {}

  detail::ActorCore& core() const {
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
  void tell_as(bool urgent, F&& function, Args&&... args) const {
    auto message = make<F, Args...>(false, std::forward<F>(function), std::forward<Args>(args)...);
    const detail::Outcome outcome = core().send(*message, detail::kNever, urgent);
    if (outcome == detail::Outcome::kReady) {
      message.release();
      return;
    }
    if (outcome == detail::Outcome::kClosed) throw ActorDead();
    detail::throw_unsent(outcome);
  }

  template <typename F, typename... Args>
  auto ask_as(bool urgent, detail::Nanos deadline, F&& function, Args&&... args) const {
    auto message = make<F, Args...>(true, std::forward<F>(function), std::forward<Args>(args)...);
    message->deadline = deadline;
    auto future = message->promise->future();
    future.state().asked = &core();
    const detail::Outcome outcome = core().send(*message, detail::kNever, urgent);
    if (outcome == detail::Outcome::kReady) {
      message.release();
    } else if (outcome == detail::Outcome::kClosed) {
      message->promise->set_exception(std::make_exception_ptr(ActorDead()));
    } else {
      detail::throw_unsent(outcome);
    }
    return future;
  }

  detail::Ref<detail::ActorCore> core_;  // an ActorOf<T>, or a pool of such
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
/// Hooks, each if T has it, public: on_start(), before the first message, where a throw is a failure;
/// on_stop(), when it was asked to stop; on_failure(std::exception_ptr), and not on_stop(), when a message
/// that was told, not asked, threw. Without the last the failure is reported (set_unhandled_handler()). An
/// actor that failed is made anew, if its options say so, or stops; the object is then another.
/// on_child_failure(std::exception_ptr), or
/// on_child_failure(std::exception_ptr, std::string_view name) with the child's ActorOptions::name, when an
/// actor that it started with start_child() stopped because of a failure; what it throws is a failure of this
/// one, and without it the child's failure is. The object is made where start() is called, and destroyed in
/// the actor.
template <typename T>
class Actor {
 public:
  /// Makes an actor with these arguments and starts it. Throws what T's constructor throws, std::system_error
  /// if there is no memory for a fiber, or no thread.
  template <typename... Args>
  requires std::is_constructible_v<T, Args...>
  static ActorRef<T> start(Args&&... args) { return start_with(ActorOptions{}, std::forward<Args>(args)...); }
  template <typename... Args>
  static ActorRef<T> start_with(const ActorOptions& options, Args&&... args) {
    return launch(nullptr, options, std::forward<Args>(args)...);
  }

  /// A pool: several actors with copies of these arguments, and one reference that sends each message to one
  /// of them (PoolOptions::routing; worker() for one with a key). To stop it stops all. If one fails for
  /// good, all stop; if one is stopped, the others go on. std::invalid_argument for a pool of none.
  template <typename... Args>
  static ActorRef<T> start_pool(const PoolOptions& options, const Args&... args) {
    if (options.size == 0)
      throw std::invalid_argument("weft::Actor::start_pool: a pool needs at least one actor");
    ActorOptions root_options;
    root_options.name = options.actor.name;
    if (!options.actor.dispatcher.own_thread_) root_options.dispatcher = options.actor.dispatcher;
    auto root = detail::Ref<detail::ActorCore>::adopt(new detail::ActorOf<detail::PoolRoot>(root_options));
    if (!root->make_pool(options.routing)) throw std::bad_alloc();
    try {
      for (size_t i = 0; i < options.size; ++i) launch(root.get(), options.actor, args...);
      run(root, root_options);
    } catch (...) {
      root->abandon();
      throw;
    }
    return ActorRef<T>(std::move(root));
  }

 protected:
  Actor() noexcept = default;
  ~Actor() = default;

  /// The actor's own reference; not in its constructor.
  ActorRef<T> self() const { return ActorRef<T>(detail::Ref<detail::ActorCore>::share(core())); }

  /// Starts an actor that this one supervises: it is asked to stop when this one ends, or is made anew, and
  /// this one is done only when it is. See on_child_failure(). In the actor only, and not in its constructor.
  template <typename U, typename... Args>
  ActorRef<U> start_child(Args&&... args) const {
    return start_child_with<U>(ActorOptions{}, std::forward<Args>(args)...);
  }
  template <typename U, typename... Args>
  ActorRef<U> start_child_with(const ActorOptions& options, Args&&... args) const {
    return Actor<U>::launch(&core(), options, std::forward<Args>(args)...);
  }

 private:
  template <typename>
  friend class Actor;
  friend class detail::ActorOf<T>;

  detail::ActorCore& core() const {
    if (!core_) throw std::logic_error("weft::Actor: not an actor yet, in its constructor: use on_start()");
    return *core_;
  }

  template <typename... Args>
  static ActorRef<T> launch(detail::ActorCore* parent, const ActorOptions& options, Args&&... args) {
    auto core =
        detail::Ref<detail::ActorCore>::adopt(new detail::ActorOf<T>(options, std::forward<Args>(args)...));
    if (parent) {
      const int error = core->set_parent(*parent);
      if (error) core->abandon();
      if (error == EPERM)
        throw std::logic_error("weft::Actor::start_child: only the actor itself starts its children");
      if (error == ESRCH) throw ActorDead("the actor that is to supervise it has stopped");
      if (error) throw std::bad_alloc();
    }
    run(core, options);
    return ActorRef<T>(std::move(core));
  }

  static void run(const detail::Ref<detail::ActorCore>& core, const ActorOptions& options) {
    core->enlist();
    int error;
    try {
      if (const auto workers = options.dispatcher.workers(options.name)) {
        error = workers->start(*core);
      } else {
        const auto task = detail::Ref<detail::ActorTask>::adopt(new detail::ActorTask(core));
        error = task->start({options.name.data(), options.name.size(), options.stack_size, -1, {}});
      }
    } catch (...) {
      core->abandon();
      throw;
    }
    if (!core->alive()) core->delist();  // a pool whose actors were faster
    if (!error) return;
    core->abandon();
    detail::throw_errno(error, "weft::Actor::start: no memory for another fiber, or no thread");
  }

  detail::ActorCore* core_ = nullptr;
};

}  // namespace weft
