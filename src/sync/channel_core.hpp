// What channel.cpp and select.cpp share.
#pragma once

#include "fiber/futex_lock.hpp"
#include "sync/waiter.hpp"
#include "weft/detail/channel.hpp"

namespace weft::detail {

/// A wait for one or several cases. Whoever sets `chosen` from kNone, once, has the wait end; with a case of
/// a channel that happens under the channel's lock, in which the item is moved too. So a waiter that takes
/// the locks of its channels once it runs again finds the item moved, or itself on no queue.
struct Selection {
  static constexpr uint32_t kNone = UINT32_MAX, kGivenUp = UINT32_MAX - 1;

  bool claim(uint32_t index) noexcept {
    uint32_t none = kNone;
    return chosen.compare_exchange_strong(none, index, std::memory_order_acq_rel);
  }

  std::atomic<uint32_t> chosen{kNone};
  Case* cases = nullptr;
  Waiter waiter;
};

/// Cases that wait at a channel, in the order they came.
class CaseQueue {
 public:
  void push(Case& c) noexcept {
    c.later = nullptr;
    c.earlier = last_;
    (last_ ? last_->later : first_) = &c;
    last_ = &c;
    c.queued = true;
  }
  void remove(Case& c) noexcept {
    (c.earlier ? c.earlier->later : first_) = c.later;
    (c.later ? c.later->earlier : last_) = c.earlier;
    c.queued = false;
  }
  /// Takes off the first whose selection could be claimed, and those before it, which are taken already. Null
  /// if there is none.
  Case* claim_first() noexcept {
    while (Case* c = first_) {
      remove(*c);
      if (c->selection->claim(static_cast<uint32_t>(c - c->selection->cases))) return c;
    }
    return nullptr;
  }

 private:
  Case* first_ = nullptr;
  Case* last_ = nullptr;
};

class ChannelCore {
 public:
  ChannelCore(size_t capacity, const ItemType& type) noexcept : type_(type), capacity_(capacity) {}
  ~ChannelCore();
  ChannelCore(const ChannelCore&) = delete;
  ChannelCore& operator=(const ChannelCore&) = delete;

  // --- REQUIRES, all of these: the lock is held.

  /// Does what `c` is for if it can be done at once; c.outcome tells how.
  bool attempt(Case& c) noexcept;
  void enqueue(Case& c) noexcept { (c.kind == Case::Kind::kSend ? senders_ : receivers_).push(c); }
  void dequeue(Case& c) noexcept {
    if (c.queued) (c.kind == Case::Kind::kSend ? senders_ : receivers_).remove(c);
  }
  bool close() noexcept;
  /// Has room for all that will ever be there.
  bool allocate() noexcept;
  int visit(int (*look)(void* item, void* argument), void* argument) noexcept;

  engine::FutexLock lock;
  std::atomic<uint32_t> references{1};

  bool closed() const noexcept { return closed_.load(std::memory_order_acquire); }
  size_t size() const noexcept { return size_.load(std::memory_order_relaxed); }
  size_t capacity() const noexcept { return capacity_; }

 private:
  void* slot(size_t index) const noexcept { return items_ + ((first_ + index) % slots_) * type_.size; }
  bool grow() noexcept;
  bool put(void* item) noexcept;
  void take(void* item) noexcept;
  static void finish(Case& c, Outcome outcome) noexcept;

  const ItemType type_;
  const size_t capacity_;
  std::byte* items_ = nullptr;  // a ring of slots_, from first_ on
  size_t slots_ = 0, first_ = 0;
  std::atomic<size_t> size_{0};
  std::atomic<bool> closed_{false};
  // Of the two only one has members: senders wait only if there is no room and no receiver, receivers only if
  // there is no item and no sender.
  CaseQueue senders_, receivers_;
};

}  // namespace weft::detail
