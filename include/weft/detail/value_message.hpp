// A message that actors of all languages understand, and how it is answered.
#pragma once

#include <cxxabi.h>

#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <typeinfo>

#include "weft/actor_options.hpp"
#include "weft/error.hpp"
#include "weft/value.hpp"

namespace weft {

/// Thrown by an actor of another language, or in another module, and known here by its name only. what() is
/// "type: text".
class ForeignError : public std::runtime_error {
 public:
  ForeignError(std::string_view type, std::string_view text)
      : std::runtime_error(std::string(type) + (text.empty() ? "" : ": ") + std::string(text)),
        type_(type.size()) {}

  /// The exception's type: "ValueError", "std::out_of_range".
  std::string_view type() const noexcept { return std::string_view(what()).substr(0, type_); }
  /// What it says.
  std::string_view text() const noexcept {
    const std::string_view all = what();
    return all.substr(std::min(all.size(), type_ + 2));
  }

 private:
  size_t type_;
};

namespace detail {

/// What became of a message that was asked. Those that all languages have exceptions for need no type.
enum class Ending : uint8_t {
  kValue,
  kError,
  kDead,       ///< ActorDead
  kFull,       ///< MailboxFull
  kTimeout,    ///< Timeout
  kCancelled,  ///< Cancelled
};

/// Lives as long as the call that it is an argument of.
struct ValueAnswer {
  Ending how;
  const Value* value;  // kValue
  const char* type;    // kError
  const char* text;    // but for kValue, kCancelled
};

/// A value, or the call of a method by name. Made by one module, and handled by the code of another: of plain
/// layout, settled and destroyed by a function of who made it.
struct ValueMessage : Message {
  /// To be called once, by who handles it: takes the answer, or null where there is none, and destroys it.
  /// Any thread; must not wait. The calls of one actor's messages may come after its next message.
  void (*settle)(ValueMessage& self, const ValueAnswer* answer) noexcept = nullptr;
  bool asked = false;  ///< else settle() gets null
  Value method;  ///< a text: the content is a list of its arguments; nothing: the content is the message
  Value content;
};

inline std::string name_of(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> name(
      abi::__cxa_demangle(type.name(), nullptr, nullptr, &status), &std::free);
  return name ? name.get() : type.name();
}

/// Calls function(answer) with what the exception is for who asked.
template <typename F>
void with_answer_of(const std::exception_ptr& error, F&& function) noexcept {
  const auto say = [&](Ending how, const char* type, const char* text) {
    function(ValueAnswer{how, nullptr, type, text});
  };
  try {
    std::rethrow_exception(error);
  } catch (const ForeignError& e) {
    say(Ending::kError, std::string(e.type()).c_str(), std::string(e.text()).c_str());
  } catch (const ActorDead& e) {
    say(Ending::kDead, nullptr, e.what());
  } catch (const MailboxFull& e) {
    say(Ending::kFull, nullptr, e.what());
  } catch (const Timeout& e) {
    say(Ending::kTimeout, nullptr, e.what());
  } catch (const Cancelled& e) {
    say(Ending::kCancelled, nullptr, e.what());
  } catch (const std::exception& e) {
    say(Ending::kError, name_of(typeid(e)).c_str(), e.what());
  } catch (...) {
    const std::type_info* type = abi::__cxa_current_exception_type();
    say(Ending::kError, type ? name_of(*type).c_str() : "an exception", "");
  }
}

/// The reverse.
inline std::exception_ptr exception_of(const ValueAnswer& answer) noexcept {
  try {
    switch (answer.how) {
      case Ending::kValue:
        break;
      case Ending::kError:
        throw ForeignError(answer.type, answer.text);
      case Ending::kDead:
        throw ActorDead(answer.text);
      case Ending::kFull:
        throw MailboxFull(answer.text);
      case Ending::kTimeout:
        throw Timeout("an actor");
      case Ending::kCancelled:
        throw Cancelled();
    }
    return nullptr;
  } catch (...) {
    return std::current_exception();
  }
}

inline void settle_value(ValueMessage& message, const Value& value) noexcept {
  const ValueAnswer answer{Ending::kValue, &value, nullptr, nullptr};
  message.settle(message, message.asked ? &answer : nullptr);
}
inline void settle_error(ValueMessage& message, const std::exception_ptr& error) noexcept {
  with_answer_of(error, [&](const ValueAnswer& answer) noexcept { message.settle(message, &answer); });
}

}  // namespace detail
}  // namespace weft
