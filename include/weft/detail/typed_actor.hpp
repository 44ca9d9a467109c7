// What weft::Actor<T> tells the core of a class, and of messages to it.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "weft/actor_options.hpp"
#include "weft/detail/actor.hpp"
#include "weft/fiber.hpp"
#include "weft/future.hpp"
#include "weft/methods.hpp"

namespace weft {

template <typename T>
class Actor;

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

/// Throws what an Outcome of ActorCore::send() stands for; not for kReady and kClosed.
[[noreturn]] inline void throw_unsent(Outcome outcome) {
  if (outcome == Outcome::kSelf)
    throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                            "an actor's own mailbox is full, and it would wait for room in it");
  raise(outcome);
  throw MailboxFull();
}

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

/// What all C++ actors have.
class CppActor : public ActorCore {
 public:
  CppActor(const ActorType& type, Destroy destroy, const ActorOptions& options)
      : ActorCore(type, destroy, options.mailbox), name(options.name) {}

  const std::string name;
  std::exception_ptr error;  // what it failed with

 protected:
  ~CppActor() = default;
};

inline const char* text_of(Refusal why) noexcept {
  constexpr const char* kReasons[] = {"stopped", "full", "expired"};
  return kReasons[static_cast<int>(why)];
}

// It was told, not asked: nobody else hears of it.
inline void mourn(const std::type_info& type, ActorCore& actor, Refusal why) noexcept {
  report_dead_letter({actor.type().name(actor), type.name(), text_of(why)});
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

  static constexpr MessageType kType{[](Message& base, ActorCore& actor, Refusal why) noexcept {
                                       auto* self = static_cast<CallMessage*>(&base);
                                       if (self->promise)
                                         self->promise->set_exception(refusal(why));
                                       else
                                         mourn(typeid(F), actor, why);
                                       delete self;
                                     },
                                     nullptr};
};

struct StopMessage final : Message {
  StopMessage() { type = &kType; }

  Promise<bool> promise;

  static void answer(Message& base, ActorCore&) noexcept {
    auto* self = static_cast<StopMessage*>(&base);
    self->promise.set(true);
    delete self;
  }
  static constexpr MessageType kType{
      [](Message& base, ActorCore& actor, Refusal) noexcept { answer(base, actor); }, &answer};
};

inline Future<bool> stop(ActorCore& actor, bool urgent) {
  auto message = std::make_unique<StopMessage>();
  auto future = message->promise.future();
  future.state().asked = &actor;
  const Outcome outcome = actor.send(*message, kNever, urgent);
  if (outcome == Outcome::kReady) {
    message.release();
  } else if (outcome == Outcome::kClosed) {
    message->promise.set(false);
  } else {
    throw_unsent(outcome);
  }
  return future;
}

template <typename T>
class ActorOf final : public CppActor {
 public:
  /// Makes the object with these arguments, and keeps them if it is to be made anew.
  template <typename... Args>
  explicit ActorOf(const ActorOptions& options, Args&&... args) : CppActor(kType, &destroy, options) {
    if (options.restart.limit > 0) {
      if constexpr ((std::is_copy_constructible_v<std::decay_t<Args>> && ...) &&
                    std::is_constructible_v<T, const std::decay_t<Args>&...>) {
        make_ = [kept = std::tuple<std::decay_t<Args>...>(args...)](std::optional<T>& object) {
          std::apply([&](const auto&... each) { object.emplace(each...); }, kept);
        };
        if (!set_restart(options.restart)) throw std::bad_alloc();
      } else {
        throw std::invalid_argument(
            "weft::ActorOptions::restart: an actor that is made anew needs arguments that can be copied");
      }
    }
    object_.emplace(std::forward<Args>(args)...);
    introduce();
  }

  T& object() noexcept { return *object_; }

 private:
  void introduce() noexcept {
    if constexpr (std::is_base_of_v<Actor<T>, T>) static_cast<Actor<T>&>(*object_).core_ = this;
  }

  // Calls a hook, if T has it. False: it threw.
  template <typename F>
  bool call_hook(F&& hook) noexcept {
    try {
      hook();
      return true;
    } catch (...) {
      error = std::current_exception();
      report();
      return false;
    }
  }

  void report() const noexcept {
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& exception) {
      report_failed_actor(name.c_str(), typeid(T).name(), typeid(exception).name(), exception.what());
    } catch (...) {
      report_failed_actor(name.c_str(), typeid(T).name(), nullptr, "");
    }
  }

  static ActorOf& of(ActorCore& core) noexcept { return static_cast<ActorOf&>(core); }

  static constexpr ActorType kType{
      .turn = 1'000'000,
      .lost_at_fork = true,
      .enter = [](ActorCore&, void*) noexcept {},
      .leave = [](ActorCore&) noexcept {},
      .begin =
          [](ActorCore& core) noexcept {
            return of(core).call_hook([&] {
              if constexpr (requires(T & object) { object.on_start(); }) of(core).object().on_start();
            });
          },
      .renew =
          [](ActorCore& core) noexcept {
            ActorOf& self = of(core);
            return self.call_hook([&] {
              self.object_.reset();
              self.make_(self.object_);
              self.introduce();
            });
          },
      .handle =
          [](ActorCore& core, Message& message) noexcept {
            auto& typed = static_cast<TypedMessage<T>&>(message);
            return typed.handle(typed, of(core));
          },
      .receive =
          [](ActorCore& core, ValueMessage& message) noexcept {
            try {
              receive_value(of(core).object(), message);
              return Handled::kDone;
            } catch (...) {
              const std::exception_ptr why = std::current_exception();
              if (message.asked) {
                settle_error(message, why);
                return Handled::kDone;
              }
              of(core).error = why;
              message.settle(message, nullptr);
              return Handled::kFailed;
            }
          },
      .failed =
          [](ActorCore& core) noexcept {
            ActorOf& self = of(core);
            if constexpr (requires(T & object) { object.on_failure(self.error); }) {
              const std::exception_ptr failure = self.error;
              self.call_hook([&] { self.object().on_failure(failure); });
            } else {
              self.report();
            }
          },
      .child_failed =
          [](ActorCore& core, ActorCore& child) noexcept {
            ActorOf& self = of(core);
            const std::exception_ptr failure = static_cast<CppActor&>(child).error;
            const std::string_view who = static_cast<CppActor&>(child).name;
            try {
              if constexpr (requires(T & object) { object.on_child_failure(failure, who); })
                self.object().on_child_failure(failure, who);
              else if constexpr (requires(T & object) { object.on_child_failure(failure); })
                self.object().on_child_failure(failure);
              else
                std::rethrow_exception(failure);
              return Handled::kDone;
            } catch (...) {
              self.error = std::current_exception();
              return Handled::kFailed;
            }
          },
      .forget_failure = [](ActorCore& core) noexcept { of(core).error = nullptr; },
      .end =
          [](ActorCore& core) noexcept {
            of(core).call_hook([&] {
              if constexpr (requires(T & object) { object.on_stop(); }) of(core).object().on_stop();
            });
          },
      .discard =
          [](ActorCore& core) noexcept {
            of(core).object_.reset();
            of(core).make_ = nullptr;
          },
      .name = [](const ActorCore& core) noexcept { return static_cast<const CppActor&>(core).name.c_str(); },
      .methods = [](const ActorCore&, void (*visit)(void*, const char*),
                    void* argument) { visit_methods<T>(visit, argument); },
  };
  static void destroy(Completion& self) noexcept { delete static_cast<ActorOf*>(&self); }

  std::optional<T> object_;  // empty: it could not be made anew
  std::function<void(std::optional<T>&)> make_;
};

/// What a pool of actors is itself.
struct PoolRoot {
  void on_failure(const std::exception_ptr&) noexcept {
  }  // which was reported as that of the actor that failed
};

}  // namespace detail

}  // namespace weft
