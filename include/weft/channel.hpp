// Channel: a queue through which fibers, and native threads, hand each other items.
#pragma once

#include <cstddef>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "weft/detail/channel.hpp"
#include "weft/error.hpp"

namespace weft {

inline constexpr std::size_t kUnbounded = detail::kUnbounded;

namespace detail {

template <typename T>
inline constexpr ItemType kItemType{sizeof(T), alignof(T),
                                    [](void* to, void* from) noexcept {
                                      T* item = static_cast<T*>(from);
                                      std::construct_at(static_cast<T*>(to), std::move(*item));
                                      std::destroy_at(item);
                                    },
                                    [](void* item) noexcept { std::destroy_at(static_cast<T*>(item)); }};

/// Room for an item that may come, or may go.
template <typename T>
class Slot {
 public:
  Slot() noexcept {}
  explicit Slot(T&& item) : full_(true) { std::construct_at(address(), std::move(item)); }
  Slot(Slot&& other) noexcept : full_(std::exchange(other.full_, false)) {
    if (full_) kItemType<T>.move(address(), other.address());
  }
  ~Slot() {
    if (full_) std::destroy_at(address());
  }
  Slot& operator=(Slot&&) = delete;

  T* address() noexcept { return std::launder(reinterpret_cast<T*>(bytes_)); }
  bool full() const noexcept { return full_; }
  /// An item was constructed at address(), or moved away from it.
  void set_full(bool full) noexcept { full_ = full; }
  /// Leaves it empty.
  std::optional<T> take() noexcept {
    if (!full_) return std::nullopt;
    std::optional<T> item(std::move(*address()));
    std::destroy_at(address());
    full_ = false;
    return item;
  }

 private:
  alignas(T) std::byte bytes_[sizeof(T)];
  bool full_ = false;
};

}  // namespace detail

/// A handle to a channel; copies are handles to the same, which lives as long as one of them. Any thread, as
/// all its functions.
///
/// Capacity 0, unbuffered: a send ends when a receiver has the item. N: up to N items wait in the channel.
/// kUnbounded: sending never waits. Items come out in the order in which their sends began to wait or ended.
/// Sending and receiving are cancellation points; an item whose send was cancelled, or timed out, stays with
/// the sender, and none is lost by a receive that is.
///
/// close() ends it: who waits to send, and who sends later, gets Closed; who receives gets what is left in
/// the channel, and then nothing.
template <typename T>
class Channel {
  static_assert(std::is_nothrow_move_constructible_v<T>,
                "items are moved while the channel is locked: their move constructor must be noexcept");

 public:
  using value_type = T;

  explicit Channel(std::size_t capacity = 0) : core_(detail::channel_create(capacity, detail::kItemType<T>)) {
    if (!core_) throw std::bad_alloc();
  }
  Channel(const Channel& other) noexcept : core_(other.core_) { detail::channel_retain(*core_); }
  Channel& operator=(const Channel& other) noexcept {
    detail::channel_retain(*other.core_);
    detail::channel_release(*core_);
    core_ = other.core_;
    return *this;
  }
  ~Channel() { detail::channel_release(*core_); }

  /// Throws Closed, and leaves `item` as it was.
  void send(T&& item) { sent(send_until(item, detail::kNever)); }
  void send(const T& item) {
    T copy(item);
    send(std::move(copy));
  }
  /// False if it could not be sent at once; `item` is as it was then.
  bool try_send(T& item) { return sent(send_until(item, 0)); }
  bool try_send(T&& item) { return sent(send_until(item, 0)); }
  /// False if it could not be sent within `span`; `item` is as it was then.
  template <typename Rep, typename Period>
  bool send_for(T& item, std::chrono::duration<Rep, Period> span) {
    return sent(send_until(item, detail::deadline_after(span)));
  }
  template <typename Rep, typename Period>
  bool send_for(T&& item, std::chrono::duration<Rep, Period> span) {
    return sent(send_until(item, detail::deadline_after(span)));
  }

  /// The next item; nothing if the channel is closed and none is left.
  std::optional<T> receive() { return receive_until(detail::kNever); }
  /// Nothing if none is there now: ask closed() whether any will ever be.
  std::optional<T> try_receive() { return receive_until(0); }
  /// Nothing after `span` either.
  template <typename Rep, typename Period>
  std::optional<T> receive_for(std::chrono::duration<Rep, Period> span) {
    return receive_until(detail::deadline_after(span));
  }

  /// False if it was closed already.
  bool close() noexcept { return detail::channel_close(*core_); }
  bool closed() const noexcept { return detail::channel_closed(*core_); }
  /// Items that wait in the channel, as of now.
  std::size_t size() const noexcept { return detail::channel_size(*core_); }
  std::size_t capacity() const noexcept { return detail::channel_capacity(*core_); }

  /// `for (T& item : channel)` receives until it is closed and empty.
  class iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    using pointer = T*;
    using reference = T&;

    explicit iterator(Channel& channel) : channel_(&channel) { ++*this; }
    T& operator*() { return *item_; }
    T* operator->() { return &*item_; }
    iterator& operator++() {
      item_.reset();
      if (std::optional<T> next = channel_->receive()) item_.emplace(std::move(*next));
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const noexcept { return !item_; }

   private:
    Channel* channel_;
    std::optional<T> item_;
  };
  iterator begin() { return iterator(*this); }
  std::default_sentinel_t end() noexcept { return {}; }

  /// Same channel?
  bool operator==(const Channel& other) const noexcept { return core_ == other.core_; }
  detail::ChannelCore& core() const noexcept { return *core_; }

 private:
  detail::Outcome send_until(T& item, detail::Nanos deadline) {
    detail::Slot<T> slot(std::move(item));
    const detail::Outcome outcome = detail::channel_send(*core_, slot.address(), deadline);
    if (outcome == detail::Outcome::kReady) {
      slot.set_full(false);
    } else {
      std::destroy_at(&item);
      std::construct_at(&item, std::move(*slot.address()));
    }
    return outcome;
  }
  static bool sent(detail::Outcome outcome) {
    if (outcome == detail::Outcome::kClosed) throw Closed();
    detail::raise(outcome);
    return outcome == detail::Outcome::kReady;
  }
  std::optional<T> receive_until(detail::Nanos deadline) {
    detail::Slot<T> slot;
    const detail::Outcome outcome = detail::channel_receive(*core_, slot.address(), deadline);
    slot.set_full(outcome == detail::Outcome::kReady);
    detail::raise(outcome);
    return slot.take();
  }

  detail::ChannelCore* core_;
};

}  // namespace weft
