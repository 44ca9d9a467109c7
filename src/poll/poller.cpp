#include "poll/poller.hpp"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "fiber/assert.hpp"
#include "fiber/parking_lot.hpp"
#include "fiber/sys.hpp"
#include "poll/epoll.hpp"
#include "poll/fd_table.hpp"
#include "poll/io_uring.hpp"

namespace weft::engine {

static_assert(kAlwaysReported == (POLLERR | POLLHUP | POLLNVAL));

namespace {

constexpr int kMaxPollers = 64;  // as many as an entry's `registered` has bits
// A poller leaves its place only after it has taken its bit out of every entry, so whoever holds the lock of
// an entry that has the bit may use the poller.
constinit std::atomic<Poller*> g_pollers[kMaxPollers];

}  // namespace

const char* to_string(Backend backend) noexcept {
  switch (backend) {
    case Backend::kAuto:
      return "auto";
    case Backend::kIoUring:
      return "io_uring";
    case Backend::kEpoll:
      return "epoll";
  }
  return "?";
}

std::unique_ptr<Poller> Poller::create(Backend backend, std::string* why) {
  // A native thread forked, and this child now makes a runtime of its own.
  if (FdTable::inherited()) {
    FdTable::reset_after_fork();
    for (auto& place : g_pollers) place.store(nullptr, std::memory_order_relaxed);
  }
  if (backend == Backend::kEpoll) {
    if (why) *why = "epoll, as asked for";
    return EpollPoller::create();
  }
  if (auto poller = UringPoller::create()) {
    if (why)
      *why = backend == Backend::kAuto ? "io_uring, which the kernel allows" : "io_uring, as asked for";
    return poller;
  }
  const int error = errno;
  if (why) *why = std::string("the kernel refuses io_uring: ") + strerrordesc_np(error);
  if (backend == Backend::kIoUring) {
    errno = error;
    return nullptr;
  }
  if (why) *why = "epoll; " + *why;
  return EpollPoller::create();
}

Poller::~Poller() {
  WEFT_ASSERT(index_ < 0);
}

bool Poller::enlist() noexcept {
  for (int i = 0; i < kMaxPollers; ++i) {
    Poller* none = nullptr;
    if (!g_pollers[i].compare_exchange_strong(none, this)) continue;
    index_ = i;
    return true;
  }
  return false;
}

void Poller::delist() noexcept {
  if (index_ < 0) return;
  WEFT_ASSERT(waiting_ == 0);
  if (!FdTable::inherited()) {
    FdTable::for_each([this](FdEntry& entry) { entry.registered &= ~bit(); });
    g_pollers[index_].store(nullptr, std::memory_order_release);
  }
  index_ = -1;
}

long poll_until(std::span<pollfd> descriptors, Nanos deadline) noexcept {
  for (;;) {
    sys::Timespec left{};
    if (deadline != kNever) {
      const Nanos span = std::max<Nanos>(deadline - monotonic_now(), 0);
      left = {span / kSecond, span % kSecond};
    }
    const long count = sys::call(SYS_ppoll, descriptors.data(), descriptors.size(),
                                 deadline == kNever ? nullptr : &left, nullptr, 0);
    if (count != -EINTR) return count;
  }
}

int poll_now(std::span<FdWait> waits) noexcept {
  constexpr size_t kAtOnce = 64;
  pollfd descriptors[kAtOnce];
  int ready = 0;
  for (size_t start = 0; start < waits.size(); start += kAtOnce) {
    const auto some = waits.subspan(start, std::min(kAtOnce, waits.size() - start));
    for (size_t i = 0; i < some.size(); ++i) descriptors[i] = {some[i].fd, some[i].events, 0};
    const sys::Timespec at_once{0, 0};
    const long count = sys::call(SYS_ppoll, descriptors, some.size(), &at_once, nullptr, 0);
    for (size_t i = 0; i < some.size(); ++i) some[i].revents = count > 0 ? descriptors[i].revents : short{0};
    if (count > 0) ready += static_cast<int>(count);
  }
  return ready;
}

Wake Poller::wait_expired(std::span<FdWait> waits, uint8_t flags) noexcept {
  Carrier& carrier = *Carrier::current();
  if (poll_now(waits) > 0) return Wake::kReady;
  carrier.yield();
  const Wake revoked = (flags & kCancellable) ? Carrier::running_fiber()->revocation() : Wake::kReady;
  return revoked != Wake::kReady ? revoked : Wake::kTimeout;
}

Wake Poller::wait(std::span<FdWait> waits, Nanos deadline, uint8_t flags, const char* call,
                  const Announcement* announcement) noexcept {
  Carrier& carrier = *Carrier::current();
  Fiber& self = carrier.running();
  if (flags & kCancellable)
    if (const Wake revoked = self.revocation(); revoked != Wake::kReady) return revoked;
  if (deadline != kNever && deadline <= carrier.now()) return wait_expired(waits, flags);

  WaitReason reason{WaitKind::kIo, call};
  if (!waits.empty()) reason.descriptor = waits.front().fd;
  const uint64_t ticket = self.begin_wait(flags, reason);
  ++waiting_;
  if (announcement) announcement->call(announcement->self, ticket);
  for (FdWait& wait : waits) {
    wait.revents = 0;
    wait.fiber = &self;
    wait.ticket = ticket;
    wait.poller = this;
    wait.closed = false;
    if (wait.fd >= 0) arm(wait);
  }
  const Wake wake = carrier.park(deadline);
  disarm(waits, wake);
  --waiting_;
  // A carrier that was busy past the deadline sees the timer before it sees the descriptor; poll(2) never
  // reports a timeout for a descriptor that is ready.
  if (wake == Wake::kTimeout || wake == Wake::kExpired)
    for (const FdWait& wait : waits)
      if (wait.revents != 0) return Wake::kReady;
  return wake;
}

void Poller::end_closed(FdWait& wait) noexcept {
  wait.closed = true;
  wait.revents = POLLNVAL;
  wait.fiber->unpark(wait.ticket, Wake::kClosed);
}

void Poller::closing(int fd) noexcept {
  FdEntry* entry = fd < 0 ? nullptr : FdTable::find(fd);
  if (!entry) return;
  if (FdTable::inherited()) return;  // those who waited live in the parent
  Carrier* carrier = Carrier::current();
  Poller* own = nullptr;
  bool foreign = false;
  {
    Guard guard(entry->lock);
    entry->used.store(false, std::memory_order_relaxed);
    for (int i = 0; entry->registered >> i != 0 && i < kMaxPollers; ++i)
      if (entry->registered >> i & 1) g_pollers[i].load(std::memory_order_acquire)->deregister(*entry, fd);
    entry->next_file();
    for (FdWait* wait = entry->waits.front(); wait;) {
      FdWait& ended = *wait;
      wait = entry->waits.after(ended);
      Poller& poller = *ended.poller;
      // With io_uring a wait stays on the list until the kernel has let go of it.
      if (poller.backend() == Backend::kEpoll || ended.resting)
        ended.unlink();
      else if (carrier && &carrier->events() == &poller)
        own = &poller;
      else
        foreign = true;
      end_closed(ended);
    }
    if (foreign) ++entry->closers;
  }
  if (own) own->retire(*entry);
  if (!foreign) return;
  const bool can_switch = carrier && thread_state().no_switch == 0;
  const Nanos deadline = can_switch ? kNever : later(monotonic_now(), kForeignCloseLimit);
  const WaitReason reason{WaitKind::kOther, "close", nullptr, fd};
  Wake wake = Wake::kReady;
  // The lock of the entry is only ever taken inside that of the lot's queue here, never the other way round.
  while (wake == Wake::kReady) {
    bool left = false;
    wake = ParkingLot::instance().park(entry, deadline, kUninterruptible, reason, [&] {
      Guard guard(entry->lock);
      for (FdWait* wait = entry->waits.front(); wait; wait = entry->waits.after(*wait)) left |= wait->closed;
      return left;
    });
    if (!left) break;
  }
  Guard guard(entry->lock);
  --entry->closers;
}

long Poller::file_operation(const FileOperation&) noexcept {
  return kNotSupported;
}

void Poller::reset_after_fork() noexcept {
  FdTable::reset_after_fork();
  // The others belonged to threads that are not in this process.
  for (int i = 0; i < kMaxPollers; ++i)
    if (i != index_) g_pollers[i].store(nullptr, std::memory_order_relaxed);
  waiting_ = 0;
  renew();
}

}  // namespace weft::engine
