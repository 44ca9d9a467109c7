// Value: what actors of all languages can be sent, and answer.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "weft/detail/actor.hpp"

namespace weft {

class Value;
class ValueItem;

/// A Value is not of the kind that is wanted, or does not fit; what() tells which was found.
class ValueError : public std::runtime_error {
 public:
  explicit ValueError(const std::string& what) : std::runtime_error(what) {}
};

namespace detail {

/// What copies of a text, bytes, list or map share; the items stand behind it. The layout is plain, since
/// modules with other standard libraries read it; the module that made it destroys it.
struct ValueBlock {
  void (*destroy)(ValueBlock& self) noexcept;
  std::atomic<size_t> references;
  size_t size;  // in bytes, items

  template <typename T>
  T* items() noexcept {
    return reinterpret_cast<T*>(this + 1);
  }
};

/// How values of T and of Value become each other: `static Value to(const T&)`, `static T from(const
/// Value&)`.
template <typename T>
struct Convert;

template <typename T>
concept Convertible = requires(const T& from) {
  Convert<T>::to(from);
};

}  // namespace detail

/// Nothing, a truth value, an integer of 64 bits, a double, a text, bytes, a list, a map with texts as keys,
/// or an actor. Cannot be changed; copies share what they hold, and cost no more than a pointer's. Any
/// thread. Made from what it is to hold: nullptr, numbers, strings, std::vector<T>, std::map<std::string, T>,
/// std::optional<T>, ActorRef<T>, AnyActorRef; bytes are a std::vector or std::span of std::byte.
///
///     weft::Value song = weft::Value::map({{"name", "Alive"}, {"seconds", 322}, {"tags", tags}});
///     int seconds = song["seconds"].as<int>();
class Value {
 public:
  enum class Kind : uint8_t { kNone, kBool, kInteger, kReal, kText, kBytes, kList, kMap, kActor };

  /// Nothing.
  Value() noexcept = default;
  /// ValueError for an integer that does not fit.
  template <typename T>
  requires(!std::is_same_v<std::decay_t<T>, Value> && detail::Convertible<std::decay_t<T>>)
      Value(T&& from)  // implicit
      : Value(detail::Convert<std::decay_t<T>>::to(from)) {}
  Value(const Value& other) noexcept : kind_(other.kind_), held_(other.held_) {
    if (shares())
      held_.block->references.fetch_add(1, std::memory_order_relaxed);
    else if (kind_ == Kind::kActor)
      held_.actor->retain();
  }
  Value(Value&& other) noexcept : kind_(std::exchange(other.kind_, Kind::kNone)), held_(other.held_) {}
  Value& operator=(Value other) noexcept {
    std::swap(kind_, other.kind_);
    std::swap(held_, other.held_);
    return *this;
  }
  ~Value() {
    if (kind_ >= Kind::kText) let_go();
  }

  static Value list(std::initializer_list<Value> items) {
    return list_of<Value>(items.begin(), items.size());
  }
  /// The last of several with the same key counts.
  static Value map(std::initializer_list<std::pair<std::string_view, Value>> items) {
    std::map<std::string_view, Value> ordered;
    for (const auto& [key, value] : items) ordered[key] = value;
    return map_of(ordered);
  }

  Kind kind() const noexcept { return kind_; }
  bool is_none() const noexcept { return kind_ == Kind::kNone; }

  /// What it holds; ValueError if that is of another kind. Views live as long as the Value or a copy of it.
  bool boolean() const { return require(Kind::kBool).held_.boolean; }
  int64_t integer() const { return require(Kind::kInteger).held_.integer; }
  /// Of an integer, too.
  double real() const {
    return kind_ == Kind::kInteger ? static_cast<double>(held_.integer) : require(Kind::kReal).held_.real;
  }
  /// In UTF-8, unless whoever made it thought otherwise.
  std::string_view text() const {
    ValueBlock& block = *require(Kind::kText).held_.block;
    return {block.items<char>(), block.size};
  }
  std::span<const std::byte> bytes() const {
    ValueBlock& block = *require(Kind::kBytes).held_.block;
    return {block.items<std::byte>(), block.size};
  }
  std::span<const Value> list() const {
    ValueBlock& block = *require(Kind::kList).held_.block;
    return {block.items<Value>(), block.size};
  }
  /// In the order of their keys.
  std::span<const ValueItem> map() const;

  /// How many items a list or a map has.
  size_t size() const { return kind_ == Kind::kMap ? held_.block->size : list().size(); }
  /// An item; ValueError if there is none.
  const Value& operator[](size_t index) const {
    if (index < list().size()) return list()[index];
    throw ValueError("item " + std::to_string(index) + " is wanted of a list of " +
                     std::to_string(list().size()));
  }
  const Value& operator[](std::string_view key) const {
    if (const Value* found = find(key)) return *found;
    throw ValueError("the map has no '" + std::string(key) + "'");
  }
  /// Null: the map has no such key.
  const Value* find(std::string_view key) const;

  /// As a C++ type, of those that a Value can be made from. ValueError if it is of another kind, or does not
  /// fit.
  template <typename T>
  T as() const {
    return detail::Convert<T>::from(*this);
  }

  /// An integer and a double are never equal; actors are, if they are the same.
  bool operator==(const Value& other) const noexcept;

  static const char* name_of(Kind kind) noexcept {
    constexpr const char* kNames[] = {"nothing", "a truth value", "an integer", "a real number", "a text",
                                      "bytes",   "a list",        "a map",      "an actor"};
    return kNames[static_cast<size_t>(kind)];
  }

 private:
  using ValueBlock = detail::ValueBlock;
  template <typename>
  friend struct detail::Convert;
  friend class AnyActorRef;

  union Held {
    bool boolean;
    int64_t integer;
    double real;
    ValueBlock* block;
    detail::ActorCore* actor;
  };

  Value(Kind kind, Held held) noexcept : kind_(kind), held_(held) {}

  bool shares() const noexcept { return kind_ >= Kind::kText && kind_ <= Kind::kMap; }
  void let_go() noexcept {
    if (kind_ == Kind::kActor)
      held_.actor->release();
    else if (held_.block->references.fetch_sub(1, std::memory_order_acq_rel) == 1)
      held_.block->destroy(*held_.block);
  }
  const Value& require(Kind kind) const {
    if (kind_ == kind) return *this;
    throw ValueError(std::string(name_of(kind)) + " is wanted, and this is " + name_of(kind_));
  }

  /// A block with room for so many; it has none yet.
  template <typename T>
  static std::unique_ptr<ValueBlock, void (*)(ValueBlock*)> make_block(size_t items) {
    if (items > (SIZE_MAX - sizeof(ValueBlock)) / sizeof(T) - 1) throw std::bad_alloc();
    void* memory = std::malloc(sizeof(ValueBlock) + items * sizeof(T) + 1);
    if (!memory) throw std::bad_alloc();
    const auto destroy = [](ValueBlock& block) noexcept {
      std::destroy_n(block.items<T>(), block.size);
      block.~ValueBlock();
      std::free(&block);
    };
    return {new (memory) ValueBlock{destroy, 1, 0}, [](ValueBlock* block) { block->destroy(*block); }};
  }
  static Value chars_of(Kind kind, const void* data, size_t size) {
    auto block = make_block<char>(size);
    if (size > 0) std::memcpy(block->items<char>(), data, size);
    block->items<char>()[size] = '\0';
    block->size = size;
    return {kind, {.block = block.release()}};
  }
  template <typename T, typename Iterator>
  static Value list_of(Iterator first, size_t size) {
    auto block = make_block<Value>(size);
    for (; block->size < size; ++block->size, ++first)
      new (block->items<Value>() + block->size) Value(static_cast<const T&>(*first));
    return {Kind::kList, {.block = block.release()}};
  }
  /// `items`: pairs in the order of their keys, which are unique.
  template <typename Items>
  static Value map_of(const Items& items);

  Kind kind_ = Kind::kNone;
  Held held_{.integer = 0};
};

/// Of a map.
class ValueItem {
 public:
  std::string_view key() const noexcept { return key_.text(); }
  const Value& value() const noexcept { return value_; }

 private:
  friend class Value;
  ValueItem(Value key, Value value) noexcept : key_(std::move(key)), value_(std::move(value)) {}

  Value key_;
  Value value_;
};

inline std::span<const ValueItem> Value::map() const {
  ValueBlock& block = *require(Kind::kMap).held_.block;
  return {block.items<ValueItem>(), block.size};
}

inline const Value* Value::find(std::string_view key) const {
  const auto items = map();
  const auto found =
      std::lower_bound(items.begin(), items.end(), key,
                       [](const ValueItem& item, std::string_view k) { return item.key() < k; });
  return found != items.end() && found->key() == key ? &found->value() : nullptr;
}

inline bool Value::operator==(const Value& other) const noexcept {
  if (kind_ != other.kind_) return false;
  switch (kind_) {
    case Kind::kNone:
      return true;
    case Kind::kBool:
      return held_.boolean == other.held_.boolean;
    case Kind::kInteger:
      return held_.integer == other.held_.integer;
    case Kind::kReal:
      return held_.real == other.held_.real;
    case Kind::kText:
    case Kind::kBytes:
      return held_.block->size == other.held_.block->size &&
             std::memcmp(held_.block->items<char>(), other.held_.block->items<char>(), held_.block->size) ==
                 0;
    case Kind::kList:
      return std::equal(list().begin(), list().end(), other.list().begin(), other.list().end());
    case Kind::kMap:
      return std::equal(map().begin(), map().end(), other.map().begin(), other.map().end(),
                        [](const ValueItem& left, const ValueItem& right) {
                          return left.key() == right.key() && left.value() == right.value();
                        });
    case Kind::kActor:
      return held_.actor == other.held_.actor;
  }
  return false;
}

template <typename Items>
Value Value::map_of(const Items& items) {
  auto block = make_block<ValueItem>(items.size());
  for (const auto& [key, value] : items) {
    new (block->template items<ValueItem>() + block->size)
        ValueItem(chars_of(Kind::kText, key.data(), key.size()), Value(value));
    ++block->size;
  }
  return {Kind::kMap, {.block = block.release()}};
}

namespace detail {

template <>
struct Convert<Value> {
  static Value from(const Value& value) noexcept { return value; }
};

template <>
struct Convert<std::nullptr_t> {
  static Value to(std::nullptr_t) noexcept { return {}; }
};

template <>
struct Convert<bool> {
  static Value to(bool from) noexcept { return {Value::Kind::kBool, {.boolean = from}}; }
  static bool from(const Value& value) { return value.boolean(); }
};

template <typename T>
concept Integer = std::is_integral_v<T> && !std::is_same_v<T, bool> && !std::is_same_v<T, char> &&
                  !std::is_same_v<T, wchar_t> && !std::is_same_v<T, char8_t> &&
                  !std::is_same_v<T, char16_t> && !std::is_same_v<T, char32_t>;

template <Integer T>
struct Convert<T> {
  static Value to(T from) {
    if (!std::in_range<int64_t>(from))
      throw ValueError("the integer " + std::to_string(from) + " needs more than 64 bits with a sign");
    return {Value::Kind::kInteger, {.integer = static_cast<int64_t>(from)}};
  }
  static T from(const Value& value) {
    const int64_t integer = value.integer();
    if (std::in_range<T>(integer)) return static_cast<T>(integer);
    throw ValueError("the integer " + std::to_string(integer) + " is not from " +
                     std::to_string(std::numeric_limits<T>::min()) + " to " +
                     std::to_string(std::numeric_limits<T>::max()));
  }
};

template <std::floating_point T>
struct Convert<T> {
  static Value to(T from) noexcept { return {Value::Kind::kReal, {.real = static_cast<double>(from)}}; }
  static T from(const Value& value) { return static_cast<T>(value.real()); }
};

template <>
struct Convert<std::string_view> {
  static Value to(std::string_view from) {
    return Value::chars_of(Value::Kind::kText, from.data(), from.size());
  }
  /// Lives as long as the Value or a copy of it.
  static std::string_view from(const Value& value) { return value.text(); }
};
template <>
struct Convert<std::string> {
  static Value to(const std::string& from) { return Convert<std::string_view>::to(from); }
  static std::string from(const Value& value) { return std::string(value.text()); }
};
template <>
struct Convert<const char*> {
  static Value to(const char* from) { return Convert<std::string_view>::to(from); }
};
template <>
struct Convert<char*> : Convert<const char*> {};

template <>
struct Convert<std::span<const std::byte>> {
  static Value to(std::span<const std::byte> from) {
    return Value::chars_of(Value::Kind::kBytes, from.data(), from.size());
  }
  /// As of a std::string_view.
  static std::span<const std::byte> from(const Value& value) { return value.bytes(); }
};
template <>
struct Convert<std::vector<std::byte>> {
  static Value to(const std::vector<std::byte>& from) {
    return Convert<std::span<const std::byte>>::to(from);
  }
  static std::vector<std::byte> from(const Value& value) {
    return {value.bytes().begin(), value.bytes().end()};
  }
};

template <typename T>
concept Held = std::is_same_v<T, Value> || Convertible<T>;

template <Held T>
struct Convert<std::vector<T>> {
  static Value to(const std::vector<T>& from) { return Value::list_of<T>(from.begin(), from.size()); }
  static std::vector<T> from(const Value& value) {
    std::vector<T> all;
    all.reserve(value.list().size());
    for (const Value& each : value.list()) all.push_back(each.as<T>());
    return all;
  }
};

template <Held T, typename Less>
struct Convert<std::map<std::string, T, Less>> {
  static Value to(const std::map<std::string, T, Less>& from) {
    if constexpr (std::is_same_v<Less, std::less<std::string>> || std::is_same_v<Less, std::less<>>)
      return Value::map_of(from);
    else
      return Value::map_of(std::map<std::string_view, T>(from.begin(), from.end()));
  }
  static std::map<std::string, T, Less> from(const Value& value) {
    std::map<std::string, T, Less> all;
    for (const ValueItem& each : value.map()) all.emplace(each.key(), each.value().template as<T>());
    return all;
  }
};

template <Held T>
struct Convert<std::optional<T>> {
  static Value to(const std::optional<T>& from) { return from ? Value(*from) : Value(); }
  static std::optional<T> from(const Value& value) {
    if (value.is_none()) return std::nullopt;
    return value.as<T>();
  }
};

}  // namespace detail
}  // namespace weft
