#include "weft/detail/descriptor.hpp"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "fiber/assert.hpp"
#include "fiber/sys.hpp"
#include "net/wait.hpp"
#include "sync/waiter.hpp"

namespace weft::detail {

namespace sys = engine::sys;

// Who waits inside an operation; on its stack, on the list while it may be woken by close().
struct Descriptor::Waiter {
  Descriptor& descriptor;
  detail::Waiter waiter{};
  Waiter* next = nullptr;
  bool listed = false;

  void end() noexcept { waiter.wake(engine::Wake::kClosed, engine::Turn::kInOrder); }
};

bool Descriptor::enter() noexcept {
  uint32_t seen = state_.load(std::memory_order_relaxed);
  do {
    if (seen & (kClosed | kGone)) return false;
  } while (!state_.compare_exchange_weak(seen, seen + kUser, std::memory_order_acquire,
                                         std::memory_order_relaxed));
  return true;
}

// Once it is closed nobody enters, so exactly one is the last.
void Descriptor::leave() noexcept {
  if (state_.fetch_sub(kUser, std::memory_order_acq_rel) != (kUser | kClosed)) return;
  close_now(fd_);
  // Whoever sees it gone may free the object: from here on only its address is used.
  state_.fetch_or(kGone, std::memory_order_acq_rel);
  wake(&state_);
}

int Descriptor::release() noexcept {
  const uint32_t former = state_.exchange(kGone, std::memory_order_acq_rel);
  WEFT_ASSERT((former & ~kGone) == 0 && "weft: a socket was moved or released while somebody uses it");
  return std::exchange(fd_, -1);
}

void Descriptor::close_slowly() noexcept {
  uint32_t seen = state_.load(std::memory_order_relaxed);
  bool mine;
  do {
    if (seen & kGone) return;
    mine = !(seen & kClosed);
  } while (!state_.compare_exchange_weak(seen, mine ? (seen | kClosed) + kUser : seen,
                                         std::memory_order_acq_rel, std::memory_order_relaxed));
  if (mine) {
    // Who announces itself later sees kClosed, with the lock held.
    lock_.lock();
    for (Waiter* waiter = waiters_; waiter; waiter = waiter->next) waiter->end();
    lock_.unlock();
    leave();
  }
  const Nanos deadline =
      switchable_fiber() ? kNever : engine::later(now(), engine::Poller::kForeignCloseLimit);
  await(&state_, deadline, kUncancellable, "close",
        [this]() noexcept { return (state_.load(std::memory_order_acquire) & kGone) != 0; });
}

void Descriptor::announce(Waiter& waiter) noexcept {
  lock_.lock();
  const bool closed = state_.load(std::memory_order_relaxed) & kClosed;
  if (!closed) {
    waiter.next = waiters_;
    waiters_ = &waiter;
    waiter.listed = true;
  }
  lock_.unlock();
  if (closed) waiter.end();
}

Outcome Descriptor::wait(short events, Nanos deadline, const char* call) noexcept {
  engine::FdWait waits[2];
  waits[0].fd = fd_;
  waits[0].events = events;
  waits[1].events = POLLIN;
  Waiter waiter{*this};
  Outcome outcome;
  int bell = -1;
  if (switchable_fiber()) {
    const engine::Poller::Announcement announcement{[](void* self, uint64_t ticket) noexcept {
                                                      auto& who = *static_cast<Waiter*>(self);
                                                      who.waiter.announce(*switchable_fiber(), ticket);
                                                      who.descriptor.announce(who);
                                                    },
                                                    &waiter};
    outcome = wait_for({waits, 1}, deadline, call, &announcement);
  } else {
    // Where there is no descriptor for the bell, close() is noticed late.
    constexpr Nanos kBlindly = 50 * engine::kMillisecond;
    bell = static_cast<int>(sys::call(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK));
    waiter.waiter.announce(bell);
    announce(waiter);
    waits[1].fd = bell < 0 ? -1 : bell;
    const Nanos until = bell < 0 ? std::min(deadline, engine::later(now(), kBlindly)) : deadline;
    outcome = wait_for(waits, until, call);
    if (outcome == Outcome::kTimeout && until != deadline) outcome = Outcome::kReady;
  }
  if (waiter.listed) {
    lock_.lock();
    Waiter** place = &waiters_;
    while (*place != &waiter) place = &(*place)->next;
    *place = waiter.next;
    lock_.unlock();
  }
  if (bell >= 0) sys::call(SYS_close, bell);
  if (outcome == Outcome::kReady && state_.load(std::memory_order_relaxed) & kClosed) return Outcome::kClosed;
  return outcome;
}

template <typename Attempt>
IoResult Descriptor::perform(short events, Nanos deadline, const char* call, Attempt&& attempt) noexcept {
  if (const Outcome revoked = begin_operation(); revoked != Outcome::kReady) return {0, revoked};
  if (!enter()) return {-EBADF};
  IoResult result;
  for (;;) {
    result.value = attempt(fd_);
    if (result.value == -EINTR) continue;
    if (result.value != -EAGAIN) break;
    result.outcome = wait(events, deadline, call);
    if (result.outcome != Outcome::kReady) break;
  }
  leave();
  return result;
}

IoResult Descriptor::receive(void* data, size_t size, int flags, Nanos deadline, const char* call) noexcept {
  return perform(POLLIN, deadline, call, [&](int fd) noexcept {
    return sys::call(SYS_recvfrom, fd, data, size, flags | MSG_DONTWAIT, nullptr, nullptr);
  });
}

IoResult Descriptor::send(const void* data, size_t size, Nanos deadline, const char* call) noexcept {
  return perform(POLLOUT, deadline, call, [&](int fd) noexcept {
    return sys::call(SYS_sendto, fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT, nullptr, 0);
  });
}

IoResult Descriptor::receive_message(msghdr& message, int flags, Nanos deadline, const char* call) noexcept {
  return perform(POLLIN, deadline, call,
                 [&](int fd) noexcept { return sys::call(SYS_recvmsg, fd, &message, flags | MSG_DONTWAIT); });
}

IoResult Descriptor::send_message(const msghdr& message, Nanos deadline, const char* call) noexcept {
  return perform(POLLOUT, deadline, call, [&](int fd) noexcept {
    return sys::call(SYS_sendmsg, fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  });
}

IoResult Descriptor::accept(sockaddr* peer, socklen_t* size, Nanos deadline) noexcept {
  return perform(POLLIN, deadline, "accept", [&](int fd) noexcept {
    for (;;) {
      const long result = sys::call(SYS_accept4, fd, peer, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
      // accept(2): errors that were pending on the new socket are passed on, and are no reason to stop.
      switch (-result) {
        case ECONNABORTED:
        case EPROTO:
        case ENETDOWN:
        case ENOPROTOOPT:
        case EHOSTDOWN:
        case ENONET:
        case EHOSTUNREACH:
        case ENETUNREACH:
          continue;
        default:
          return result;
      }
    }
  });
}

template <typename Call>
int Descriptor::at_once(Call&& call) noexcept {
  if (!enter()) return -EBADF;
  const long result = call();
  leave();
  return static_cast<int>(result);
}

int Descriptor::set_option(int level, int name, const void* value, socklen_t size) noexcept {
  return at_once([&] { return sys::call(SYS_setsockopt, fd_, level, name, value, size); });
}
int Descriptor::option(int level, int name, void* value, socklen_t* size) noexcept {
  return at_once([&] { return sys::call(SYS_getsockopt, fd_, level, name, value, size); });
}
int Descriptor::local_name(sockaddr* address, socklen_t* size) noexcept {
  return at_once([&] { return sys::call(SYS_getsockname, fd_, address, size); });
}
int Descriptor::peer_name(sockaddr* address, socklen_t* size) noexcept {
  return at_once([&] { return sys::call(SYS_getpeername, fd_, address, size); });
}
int Descriptor::shutdown(int how) noexcept {
  return at_once([&] { return sys::call(SYS_shutdown, fd_, how); });
}
int Descriptor::connect_at_once(const sockaddr* address, socklen_t size) noexcept {
  return at_once([&] { return sys::call(SYS_connect, fd_, address, size); });
}

}  // namespace weft::detail
