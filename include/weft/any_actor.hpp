// AnyActorRef: an actor of whatever class and language.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "weft/detail/typed_actor.hpp"
#include "weft/value.hpp"

namespace weft {

template <typename T>
class ActorRef;

namespace detail {

struct SentValue final : ValueMessage {
  SentValue(Value name, Value value, bool ask) {
    type = &kType;
    settle = &take;
    asked = ask;
    method = std::move(name);
    content = std::move(value);
    if (asked) promise.emplace();
  }

  std::optional<Promise<Value>> promise;

  static void take(ValueMessage& base, const ValueAnswer* answer) noexcept {
    auto* self = static_cast<SentValue*>(&base);
    if (answer && answer->how == Ending::kValue)
      self->promise->set(*answer->value);
    else if (answer)
      self->promise->set_exception(exception_of(*answer));
    delete self;
  }
  static void refuse(Message& base, ActorCore& actor, Refusal why) noexcept {
    auto* self = static_cast<SentValue*>(&base);
    if (self->promise)
      self->promise->set_exception(refusal(why));
    else
      report_dead_letter({actor.type().name(actor), typeid(Value).name(), text_of(why)});
    delete self;
  }
  static constexpr MessageType kType{&refuse, nullptr, true};
};

/// What AnyActorRef is made of.
struct AnyActor;

inline std::string urn_of(const ActorCore& actor) {
  std::string text = "urn:uuid:";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += "0123456789abcdef"[actor.uuid()[i] >> 4];
    text += "0123456789abcdef"[actor.uuid()[i] & 15];
  }
  return text;
}

/// False: it is no URN of an actor.
inline bool parse_urn(std::string_view text, uint8_t (&uuid)[16]) noexcept {
  if (text.substr(0, 9) != "urn:uuid:" || text.size() != 45) return false;
  size_t digits = 0;
  for (size_t i = 9; i < text.size(); ++i) {
    const bool dash = i == 17 || i == 22 || i == 27 || i == 32;
    const size_t digit = std::string_view("0123456789abcdef").find(text[i]);
    if (dash ? text[i] != '-' : digit == std::string_view::npos) return false;
    if (dash) continue;
    uuid[digits / 2] = static_cast<uint8_t>(digits % 2 ? uuid[digits / 2] | digit : digit << 4);
    ++digits;
  }
  return true;
}

}  // namespace detail

/// An actor of whatever class and language, sent Values; copies refer to the same. Of a C++ class, it gets
/// them by `on_receive(weft::Value)`, and calls by name as weft_methods() says; of a Python class, by
/// on_receive() and its methods. What it throws that this program has no class for is a ForeignError. Any
/// thread or fiber; where a full mailbox makes the caller wait, it must not hold Python's GIL.
class AnyActorRef {
 public:
  AnyActorRef() noexcept = default;
  template <typename T>
  AnyActorRef(const ActorRef<T>& actor) noexcept  // implicit
      : core_(actor.core_) {}

  /// False for one that was default-constructed: then no other function may be called (std::logic_error).
  bool valid() const noexcept { return static_cast<bool>(core_); }

  /// Sends it a message, and returns a future of its answer. Errors are those of ActorRef::ask().
  Future<Value> ask(Value message) const {
    return send_asking({}, std::move(message), false, detail::kNever);
  }
  /// The same with a deadline, as of ActorRef::ask_within().
  template <typename Rep, typename Period>
  Future<Value> ask_within(std::chrono::duration<Rep, Period> span, Value message) const {
    return send_asking({}, std::move(message), false, detail::deadline_after(span));
  }
  /// The same, before all messages that are not urgent.
  Future<Value> ask_urgently(Value message) const {
    return send_asking({}, std::move(message), true, detail::kNever);
  }
  /// Sends it a message, and does not wait for what comes of it: what it throws is a failure of the actor.
  /// Errors are those of ActorRef::tell().
  void tell(Value message) const { send_telling({}, std::move(message), false); }
  /// The same, before all messages that are not urgent.
  void tell_urgently(Value message) const { send_telling({}, std::move(message), true); }

  /// Has it call one of its methods. The arguments are what a Value can be made from.
  ///
  ///     int64_t sum = counter.call("add", 3).get().as<int64_t>();
  template <typename... Args>
  Future<Value> call(std::string_view method, Args&&... args) const {
    return send_asking(method, Value::list({Value(std::forward<Args>(args))...}), false, detail::kNever);
  }
  template <typename Rep, typename Period, typename... Args>
  Future<Value> call_within(std::chrono::duration<Rep, Period> span, std::string_view method,
                            Args&&... args) const {
    return send_asking(method, Value::list({Value(std::forward<Args>(args))...}), false,
                       detail::deadline_after(span));
  }
  template <typename... Args>
  Future<Value> call_urgently(std::string_view method, Args&&... args) const {
    return send_asking(method, Value::list({Value(std::forward<Args>(args))...}), true, detail::kNever);
  }
  template <typename... Args>
  void tell_call(std::string_view method, Args&&... args) const {
    send_telling(method, Value::list({Value(std::forward<Args>(args))...}), false);
  }

  /// As those of ActorRef.
  Future<bool> stop() const { return detail::stop(core(), false); }
  Future<bool> stop_urgently() const { return detail::stop(core(), true); }
  bool alive() const { return core().alive(); }
  void join() const {
    if (core().runs_here()) detail::raise(detail::Outcome::kSelf);
    detail::raise(core().wait(detail::kNever, detail::kCancellable, "AnyActorRef::join"));
  }
  ActorStatistics statistics() const { return core().statistics(); }

  /// A name that no other actor has, anywhere: "urn:uuid:..."; Python's `actor_urn`.
  std::string urn() const { return detail::urn_of(core()); }
  /// ActorOptions::name; of a Python actor, its class's. May be "".
  std::string name() const { return core().type().name(core()); }

  bool operator==(const AnyActorRef& other) const noexcept { return core_.get() == other.core_.get(); }

 private:
  friend struct detail::AnyActor;
  friend struct detail::Convert<AnyActorRef>;
  friend AnyActorRef find_actor(std::string_view) noexcept;
  explicit AnyActorRef(detail::Ref<detail::ActorCore> core) noexcept : core_(std::move(core)) {}

  detail::ActorCore& core() const {
    if (!core_)
      throw std::logic_error("this AnyActorRef is empty: assign an ActorRef to it, or find_actor()");
    return *core_;
  }

  static Value name_of(std::string_view method) { return method.data() ? Value(method) : Value(); }

  Future<Value> send_asking(std::string_view method, Value content, bool urgent,
                            detail::Nanos deadline) const {
    auto message = std::make_unique<detail::SentValue>(name_of(method), std::move(content), true);
    message->deadline = deadline;
    auto future = message->promise->future();
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

  void send_telling(std::string_view method, Value content, bool urgent) const {
    auto message = std::make_unique<detail::SentValue>(name_of(method), std::move(content), false);
    const detail::Outcome outcome = core().send(*message, detail::kNever, urgent);
    if (outcome == detail::Outcome::kReady) {
      message.release();
      return;
    }
    if (outcome == detail::Outcome::kClosed) throw ActorDead();
    detail::throw_unsent(outcome);
  }

  detail::Ref<detail::ActorCore> core_;
};

/// The oldest actor that runs, in this process, and has that URN or that name(); an empty one if there is
/// none.
inline AnyActorRef find_actor(std::string_view urn_or_name) noexcept {
  uint8_t uuid[16];
  detail::ActorCore* found = detail::parse_urn(urn_or_name, uuid)
                                 ? detail::ActorCore::find(uuid)
                                 : detail::ActorCore::find(urn_or_name.data(), urn_or_name.size());
  return AnyActorRef(detail::Ref<detail::ActorCore>::adopt(found));
}

namespace detail {

struct AnyActor {
  static AnyActorRef of(ActorCore& core) noexcept { return AnyActorRef(Ref<ActorCore>::share(core)); }
  static ActorCore& core(const AnyActorRef& actor) { return actor.core(); }
};

template <>
struct Convert<AnyActorRef> {
  static Value to(const AnyActorRef& actor) {
    actor.core().retain();
    return {Value::Kind::kActor, {.actor = actor.core_.get()}};
  }
  static AnyActorRef from(const Value& value) {
    return AnyActorRef(Ref<ActorCore>::share(*value.require(Value::Kind::kActor).held_.actor));
  }
};

template <typename T>
struct Convert<ActorRef<T>> {
  static Value to(const ActorRef<T>& actor) { return Convert<AnyActorRef>::to(actor); }
};

}  // namespace detail
}  // namespace weft
