#include <cstring>
#include <new>

#include "sync/channel_core.hpp"

namespace weft::detail {

ChannelCore::~ChannelCore() {
  for (size_t i = 0; i < size(); ++i) type_.destroy(slot(i));
  ::operator delete(items_, std::align_val_t(type_.alignment));
}

bool ChannelCore::allocate() noexcept {
  if (capacity_ == 0 || capacity_ == kUnbounded) return true;
  if (capacity_ > SIZE_MAX / type_.size) return false;
  items_ = static_cast<std::byte*>(
      ::operator new(capacity_* type_.size, std::align_val_t(type_.alignment), std::nothrow));
  slots_ = capacity_;
  return items_ != nullptr;
}

bool ChannelCore::grow() noexcept {
  const size_t wanted = slots_ == 0 ? 16 : slots_ * 2;
  if (wanted > SIZE_MAX / type_.size) return false;
  auto* items = static_cast<std::byte*>(
      ::operator new(wanted* type_.size, std::align_val_t(type_.alignment), std::nothrow));
  if (!items) return false;
  for (size_t i = 0; i < size(); ++i) type_.move(items + i * type_.size, slot(i));
  ::operator delete(items_, std::align_val_t(type_.alignment));
  items_ = items;
  slots_ = wanted;
  first_ = 0;
  return true;
}

bool ChannelCore::put(void* item) noexcept {
  if (size() == slots_ && !grow()) return false;
  type_.move(slot(size()), item);
  size_.store(size() + 1, std::memory_order_relaxed);
  return true;
}

void ChannelCore::take(void* item) noexcept {
  type_.move(item, slot(0));
  first_ = (first_ + 1) % slots_;
  size_.store(size() - 1, std::memory_order_relaxed);
}

// Ends the wait of a case that was claimed.
void ChannelCore::finish(Case& c, Outcome outcome) noexcept {
  c.outcome = outcome;
  c.selection->waiter.wake();
}

bool ChannelCore::attempt(Case& c) noexcept {
  c.outcome = Outcome::kReady;
  if (c.kind == Case::Kind::kSend) {
    if (closed()) {
      c.outcome = Outcome::kClosed;
      return true;
    }
    if (Case* receiver = receivers_.claim_first()) {
      type_.move(receiver->item, c.item);
      finish(*receiver, Outcome::kReady);
      return true;
    }
    if (size() >= capacity_) return false;
    if (!put(c.item)) c.outcome = Outcome::kNoMemory;
    return true;
  }
  if (size() > 0) {
    take(c.item);
    // A sender that found no room has it now.
    if (Case* sender = senders_.claim_first()) {
      put(sender->item);
      finish(*sender, Outcome::kReady);
    }
    return true;
  }
  if (Case* sender = senders_.claim_first()) {
    type_.move(c.item, sender->item);
    finish(*sender, Outcome::kReady);
    return true;
  }
  if (!closed()) return false;
  c.outcome = Outcome::kClosed;
  return true;
}

bool ChannelCore::close() noexcept {
  if (closed_.exchange(true, std::memory_order_acq_rel)) return false;
  while (Case* receiver = receivers_.claim_first()) finish(*receiver, Outcome::kClosed);
  while (Case* sender = senders_.claim_first()) finish(*sender, Outcome::kClosed);
  return true;
}

int ChannelCore::visit(int (*look)(void* item, void* argument), void* argument) noexcept {
  int answer = 0;
  for (size_t i = 0; i < size() && answer == 0; ++i) answer = look(slot(i), argument);
  return answer;
}

ChannelCore* channel_create(size_t capacity, const ItemType& type) noexcept {
  auto* channel = new (std::nothrow) ChannelCore(capacity, type);
  if (channel && !channel->allocate()) {
    delete channel;
    return nullptr;
  }
  return channel;
}

void channel_retain(ChannelCore& channel) noexcept {
  channel.references.fetch_add(1, std::memory_order_relaxed);
}
void channel_release(ChannelCore& channel) noexcept {
  if (channel.references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete &channel;
}

bool channel_close(ChannelCore& channel) noexcept {
  engine::Guard guard(channel.lock);
  return channel.close();
}
bool channel_closed(const ChannelCore& channel) noexcept {
  return channel.closed();
}
size_t channel_size(const ChannelCore& channel) noexcept {
  return channel.size();
}
size_t channel_capacity(const ChannelCore& channel) noexcept {
  return channel.capacity();
}
int channel_visit(ChannelCore& channel, int (*visit)(void* item, void* argument), void* argument) noexcept {
  engine::Guard guard(channel.lock);
  return channel.visit(visit, argument);
}

namespace {

// One case, the usual one: what select() does, without its loops.
Outcome transfer(ChannelCore& channel, Case& c, Nanos deadline, const char* call) noexcept {
  channel.lock.lock();
  if (channel.attempt(c)) {
    channel.lock.unlock();
    return c.outcome;
  }
  if (deadline == 0) {
    channel.lock.unlock();
    return Outcome::kTimeout;
  }
  if (const Outcome revoked = revocation(); revoked != Outcome::kReady) {
    channel.lock.unlock();
    return revoked;
  }
  Selection selection;
  selection.cases = &c;
  c.selection = &selection;
  channel.enqueue(c);
  selection.waiter.announce(cancellable_flags(), {engine::WaitKind::kLock, call, &channel});
  channel.lock.unlock();
  const Outcome outcome = outcome_of(selection.waiter.wait(deadline));
  // Who claimed it holds the lock until it lets go of the waiter.
  engine::Guard guard(channel.lock);
  if (!selection.claim(Selection::kGivenUp)) return c.outcome;
  channel.dequeue(c);
  return outcome;
}

}  // namespace

Outcome channel_send(ChannelCore& channel, void* item, Nanos deadline) noexcept {
  Case c;
  c.kind = Case::Kind::kSend;
  c.item = item;
  return transfer(channel, c, deadline, "Channel::send");
}

Outcome channel_receive(ChannelCore& channel, void* item, Nanos deadline) noexcept {
  Case c;
  c.kind = Case::Kind::kReceive;
  c.item = item;
  return transfer(channel, c, deadline, "Channel::receive");
}

}  // namespace weft::detail
