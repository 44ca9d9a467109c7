// Methods of an actor that can be called by name: by actors of other languages, and through AnyActorRef.
#pragma once

#include <functional>
#include <tuple>
#include <utility>

#include "weft/detail/value_message.hpp"
#include "weft/future.hpp"

namespace weft {

namespace detail {

template <auto kFunction>
struct Method {
  const char* name;
};

// What a function of an actor's object takes besides that.
template <typename Function>
struct ArgumentsOfCall;
template <typename R, typename Object, typename... Args>
struct ArgumentsOfCall<std::function<R(Object, Args...)>> {
  using Types = std::tuple<Args...>;
};
template <typename F>
struct ArgumentsOf : ArgumentsOfCall<decltype(std::function{std::declval<F>()})> {};
template <typename R, typename C, typename... Args>
struct ArgumentsOf<R (C::*)(Args...)> {
  using Types = std::tuple<Args...>;
};
template <typename R, typename C, typename... Args>
struct ArgumentsOf<R (C::*)(Args...) const> : ArgumentsOf<R (C::*)(Args...)> {};
template <typename R, typename C, typename... Args>
struct ArgumentsOf<R (C::*)(Args...) noexcept> : ArgumentsOf<R (C::*)(Args...)> {};
template <typename R, typename C, typename... Args>
struct ArgumentsOf<R (C::*)(Args...) const noexcept> : ArgumentsOf<R (C::*)(Args...)> {};

template <typename T>
inline constexpr bool kIsFuture = false;
template <typename T>
inline constexpr bool kIsFuture<Future<T>> = true;

/// Calls function(), and has what it returns be the answer; what a Future gets, later. What it throws, this
/// throws, and the message is not settled then.
template <typename F>
void answer_with(ValueMessage& message, F&& function) {
  using R = std::decay_t<std::invoke_result_t<F>>;
  if constexpr (std::is_void_v<R>) {
    function();
    settle_value(message, {});
  } else if constexpr (kIsFuture<R>) {
    const R future = function();
    if (!message.asked) return message.settle(message, nullptr);
    future.on_done([&message, future] {
      try {
        if constexpr (std::is_void_v<decltype(future.get())>) {
          future.get();
          settle_value(message, {});
        } else {
          settle_value(message, Value(future.get()));
        }
      } catch (...) {
        settle_error(message, std::current_exception());
      }
    });
  } else {
    settle_value(message, Value(function()));
  }
}

template <typename T>
T argument(const Value& value, size_t number, const char* name) {
  try {
    return value.as<T>();
  } catch (const ValueError& error) {
    throw ValueError("argument " + std::to_string(number) + " of " + name + "(): " + error.what());
  }
}

template <auto kFunction, typename T, typename... Args, size_t... kIndex>
void call_method(T& object, const char* name, ValueMessage& message, std::tuple<Args...>*,
                 std::index_sequence<kIndex...>) {
  const Value kept = message.content;  // views into it are arguments, and settling destroys the message
  const auto given = kept.list();
  if (given.size() != sizeof...(Args))
    throw ValueError(std::string(name) + "() takes " + std::to_string(sizeof...(Args)) + " argument" +
                     (sizeof...(Args) == 1 ? "" : "s") + ", and " + std::to_string(given.size()) +
                     (given.size() == 1 ? " was" : " were") + " given");
  std::tuple<std::decay_t<Args>...> all{
      argument<std::decay_t<Args>>(given[kIndex], kIndex + 1, name)...};  // from left to right: braces
  answer_with(message, [&]() -> decltype(auto) {
    return std::invoke(kFunction, object, static_cast<Args&&>(std::get<kIndex>(all))...);
  });
}

template <typename T>
concept HasMethods = requires {
  T::weft_methods();
};
template <typename T>
concept ReceivesValues = requires(T& object, Value value) {
  object.on_receive(std::move(value));
};

/// Has the actor's object handle the message; else throws.
template <typename T>
void receive_value(T& object, ValueMessage& message) {
  if (message.method.is_none()) {
    if constexpr (ReceivesValues<T>) {
      answer_with(message, [&]() -> decltype(auto) { return object.on_receive(Value(message.content)); });
      return;
    }
    throw ValueError(name_of(typeid(T)) + " takes no values: it has no on_receive(weft::Value)");
  }
  const std::string_view wanted = message.method.text();
  if constexpr (HasMethods<T>) {
    const auto try_one = [&]<auto kFunction>(const Method<kFunction>& method) {
      if (method.name != wanted) return false;
      using Types = typename ArgumentsOf<decltype(kFunction)>::Types;
      call_method<kFunction>(object, method.name, message, static_cast<Types*>(nullptr),
                             std::make_index_sequence<std::tuple_size_v<Types>>());
      return true;
    };
    if (std::apply([&](const auto&... each) { return (try_one(each) || ...); }, T::weft_methods())) return;
  }
  throw ValueError(name_of(typeid(T)) + " has no method '" + std::string(wanted) +
                   "' for callers by name: weft_methods() gives it one");
}

template <typename T>
void visit_methods(void (*visit)(void* argument, const char* name), void* argument) {
  if constexpr (HasMethods<T>)
    std::apply([&](const auto&... each) { (visit(argument, each.name), ...); }, T::weft_methods());
}

}  // namespace detail

/// For methods(): a method of the actor's class, or a function whose first parameter is its object, and the
/// name that it is called by. Its arguments and its result are of types that a Value can be made from and
/// become; or its result is a Future of such: then the actor goes on, and the answer is what that gets.
template <auto kFunction>
constexpr detail::Method<kFunction> method(const char* name) noexcept {
  return {name};
}

/// What an actor's class returns from its static function weft_methods().
///
///     static constexpr auto weft_methods() {
///       return weft::methods(weft::method<&Counter::add>("add"), weft::method<&Counter::sum>("sum"));
///     }
template <auto... kFunctions>
constexpr std::tuple<detail::Method<kFunctions>...> methods(detail::Method<kFunctions>... all) noexcept {
  return {all...};
}

}  // namespace weft
