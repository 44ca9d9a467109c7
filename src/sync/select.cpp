// Waiting for one of several things.
//
// All channels concerned are locked, in the order of their addresses, while the cases are tried and, if none
// can go on, put on their queues (as Go's select does: runtime/select.go). So a case is tried and queued at
// one moment, and of two selections that want each other one finds the other waiting.
#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <new>

#include "poll/poller.hpp"
#include "sync/channel_core.hpp"

namespace weft::detail {

namespace {

using engine::FdWait;

// Room for `size` elements: on the stack for a few, else on the heap.
template <typename T, size_t kFew>
class Array {
 public:
  bool allocate(size_t size) noexcept {
    if (size > kFew) data_ = new (std::nothrow) T[size];
    size_ = size;
    return data_ != nullptr;
  }
  Array() noexcept = default;
  ~Array() {
    if (data_ != few_) delete[] data_;
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  T& operator[](size_t i) noexcept { return data_[i]; }
  T* begin() noexcept { return data_; }
  T* end() noexcept { return data_ + size_; }
  void shrink(size_t size) noexcept { size_ = size; }
  size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

 private:
  T few_[kFew];
  size_t size_ = 0;
  T* data_ = few_;
};

bool is_of_channel(const Case& c) noexcept {
  return c.kind == Case::Kind::kReceive || c.kind == Case::Kind::kSend;
}

// Which case is tried first: splitmix64 (G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number
// Generators", 2014).
size_t chance(size_t count) noexcept {
  static constinit std::atomic<uint64_t> state{0};
  uint64_t x = state.fetch_add(0x9e3779b97f4a7c15, std::memory_order_relaxed);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return (x ^ (x >> 31)) % count;
}

class Selecting {
 public:
  Selecting(Case* cases, size_t count) noexcept : cases_(cases), count_(count) { selection_.cases = cases; }

  bool allocate() noexcept {
    size_t channels = 0, waits = 0;
    for (size_t i = 0; i < count_; ++i) {
      channels += is_of_channel(cases_[i]);
      waits += cases_[i].kind == Case::Kind::kDescriptor;
    }
    return channels_.allocate(channels) && waits_.allocate(waits);
  }

  Outcome run(Nanos deadline, size_t* chosen) noexcept {
    collect();
    lock_all();
    if (attempt_all(chosen)) {
      unlock_all();
      return Outcome::kReady;
    }
    const Outcome revoked = deadline == 0 ? Outcome::kTimeout : revocation();
    if (revoked != Outcome::kReady) {
      unlock_all();
      return revoked;
    }
    for (size_t i = 0; i < count_; ++i)
      if (is_of_channel(cases_[i])) cases_[i].channel->enqueue(cases_[i]);
    const Outcome outcome = wait(deadline);
    for (size_t i = 0; i < count_; ++i)
      // Of a case of a channel, `queued` is the channel's, whose lock is not held here.
      if (cases_[i].kind == Case::Kind::kCompletion && cases_[i].queued)
        cases_[i].completion->remove(cases_[i]);
    lock_all();
    const bool nobody_came = selection_.claim(Selection::kGivenUp);
    for (size_t i = 0; i < count_; ++i)
      if (is_of_channel(cases_[i])) cases_[i].channel->dequeue(cases_[i]);
    unlock_all();
    if (!nobody_came) {
      *chosen = selection_.chosen.load(std::memory_order_relaxed);
      return Outcome::kReady;
    }
    note_readiness();
    for (size_t i = 0; i < count_; ++i)
      if (cases_[i].kind == Case::Kind::kDescriptor && cases_[i].events != 0) {
        *chosen = i;
        return Outcome::kReady;
      }
    return outcome;
  }

 private:
  void collect() noexcept {
    size_t channels = 0, waits = 0;
    for (size_t i = 0; i < count_; ++i) {
      Case& c = cases_[i];
      c.selection = &selection_;
      c.queued = false;
      c.outcome = Outcome::kReady;
      if (is_of_channel(c)) channels_[channels++] = c.channel;
      if (c.kind != Case::Kind::kDescriptor) continue;
      waits_[waits].fd = c.descriptor;
      waits_[waits++].events = c.events;
    }
    if (!std::is_sorted(channels_.begin(), channels_.end())) std::sort(channels_.begin(), channels_.end());
    channels_.shrink(
        static_cast<size_t>(std::unique(channels_.begin(), channels_.end()) - channels_.begin()));
  }

  void lock_all() noexcept {
    for (ChannelCore* channel : channels_) channel->lock.lock();
  }
  void unlock_all() noexcept {
    for (ChannelCore* channel : channels_) channel->lock.unlock();
  }

  void note_readiness() noexcept {
    size_t next = 0;
    for (size_t i = 0; i < count_; ++i)
      if (cases_[i].kind == Case::Kind::kDescriptor) cases_[i].events = waits_[next++].revents;
  }
  void ask_again() noexcept {
    size_t next = 0;
    for (size_t i = 0; i < count_; ++i)
      if (cases_[i].kind == Case::Kind::kDescriptor) cases_[i].events = waits_[next++].events;
  }

  // REQUIRES: locked.
  bool attempt_all(size_t* chosen) noexcept {
    if (!waits_.empty()) {
      engine::poll_now({waits_.begin(), waits_.size()});
      note_readiness();
    }
    const size_t offset = count_ > 1 ? chance(count_) : 0;
    for (size_t i = 0; i < count_; ++i) {
      Case& c = cases_[(offset + i) % count_];
      if (!can_go_on(c)) continue;
      *chosen = static_cast<size_t>(&c - cases_);
      return true;
    }
    ask_again();
    return false;
  }

  static bool can_go_on(Case& c) noexcept {
    switch (c.kind) {
      case Case::Kind::kReceive:
      case Case::Kind::kSend:
        return c.channel->attempt(c);
      case Case::Kind::kDescriptor:
        return c.events != 0;
      case Case::Kind::kCompletion:
        return c.completion->done();
      case Case::Kind::kNothing:
        break;
    }
    return false;
  }

  // What may only be handed out once the wait is announced. Unlocks.
  void announced() noexcept {
    unlock_all();
    for (size_t i = 0; i < count_; ++i) {
      Case& c = cases_[i];
      if (c.kind != Case::Kind::kCompletion) continue;
      c.call = [](Callback& self, Completion&) noexcept { come(static_cast<Case&>(self)); };
      c.queued = c.completion->add(c);
      if (!c.queued) come(c);
    }
  }

  static void come(Case& c) noexcept {
    if (c.selection->claim(static_cast<uint32_t>(&c - c.selection->cases))) c.selection->waiter.wake();
  }

  // REQUIRES: locked; returns unlocked.
  Outcome wait(Nanos deadline) noexcept {
    engine::Fiber* fiber = switchable_fiber();
    if (!waits_.empty())
      return fiber ? wait_for_descriptors(deadline) : wait_for_descriptors_natively(deadline);
    selection_.waiter.announce(cancellable_flags(), {engine::WaitKind::kLock, "select", cases_});
    announced();
    return outcome_of(selection_.waiter.wait(deadline));
  }

  Outcome wait_for_descriptors(Nanos deadline) noexcept {
    bool called = false;
    struct Context {
      Selecting& self;
      bool& called;
    } context{*this, called};
    const engine::Poller::Announcement announcement{[](void* argument, uint64_t ticket) noexcept {
                                                      auto& c = *static_cast<Context*>(argument);
                                                      c.called = true;
                                                      c.self.selection_.waiter.announce(
                                                          engine::Carrier::current()->running(), ticket);
                                                      c.self.announced();
                                                    },
                                                    &context};
    const engine::Wake wake = engine::Poller::of_this_carrier().wait(
        {waits_.begin(), waits_.size()}, deadline, cancellable_flags(), "select", &announcement);
    if (!called) unlock_all();  // it ended before it began
    return outcome_of(wake);
  }

  Outcome wait_for_descriptors_natively(Nanos deadline) noexcept {
    const int bell = static_cast<int>(engine::sys::call(SYS_eventfd2, 0, O_CLOEXEC));
    Array<pollfd, 16> descriptors;
    if (bell < 0 || !descriptors.allocate(waits_.size() + 1)) {
      unlock_all();
      if (bell >= 0) engine::sys::call(SYS_close, bell);
      return Outcome::kNoMemory;
    }
    descriptors[0] = {bell, POLLIN, 0};
    for (size_t i = 0; i < waits_.size(); ++i) descriptors[i + 1] = {waits_[i].fd, waits_[i].events, 0};
    selection_.waiter.announce(bell);
    announced();
    const long ready = engine::poll_until({descriptors.begin(), descriptors.size()}, deadline);
    for (size_t i = 0; i < waits_.size(); ++i) waits_[i].revents = descriptors[i + 1].revents;
    // Whoever claimed the selection is done with the bell once it lets go of its channel, or its call is
    // over.
    bell_ = bell;
    // It fails where the kernel has no memory, or RLIMIT_NOFILE is less than the number of cases.
    if (ready < 0) return Outcome::kNoMemory;
    return ready == 0 ? Outcome::kTimeout : Outcome::kReady;
  }

  Case* cases_;
  size_t count_;
  int bell_ = -1;
  Selection selection_;
  Array<ChannelCore*, 32> channels_;
  Array<FdWait, 4> waits_;

 public:
  ~Selecting() {
    if (bell_ >= 0) engine::sys::call(SYS_close, bell_);
  }
};

}  // namespace

Outcome select(Case* cases, size_t count, Nanos deadline, size_t* chosen) noexcept {
  Selecting selecting(cases, count);
  if (!selecting.allocate()) return Outcome::kNoMemory;
  return selecting.run(deadline, chosen);
}

}  // namespace weft::detail
