#include "poll/epoll.hpp"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <new>

#include "fiber/assert.hpp"
#include "fiber/private_fd.hpp"
#include "fiber/sys.hpp"
#include "poll/fd_table.hpp"

namespace weft::engine {

// What is passed to epoll is passed on as it comes.
static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLPRI == POLLPRI && EPOLLERR == POLLERR &&
              EPOLLHUP == POLLHUP && EPOLLRDHUP == 0x2000);

namespace {

constexpr uint64_t kBell = ~uint64_t{0};
constexpr short kAlwaysReady = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;

}  // namespace

std::unique_ptr<Poller> EpollPoller::create() {
  std::unique_ptr<EpollPoller> poller(new (std::nothrow) EpollPoller);
  if (!poller) {
    errno = ENOMEM;
    return nullptr;
  }
  if (!poller->open()) return nullptr;
  if (!poller->enlist()) {
    errno = EMFILE;
    return nullptr;
  }
  return poller;
}

EpollPoller::~EpollPoller() {
  delist();
  close();
}

bool EpollPoller::open() noexcept {
  const long set = sys::call(SYS_epoll_create1, EPOLL_CLOEXEC);
  if (set < 0) {
    errno = static_cast<int>(-set);
    return false;
  }
  epoll_ = make_private_fd(static_cast<int>(set));
  const long bell = sys::call(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (bell < 0) {
    close();
    errno = static_cast<int>(-bell);
    return false;
  }
  bell_ = make_private_fd(static_cast<int>(bell));
  // Edge-triggered: each write is one event, and nobody needs to read the counter.
  epoll_event event{EPOLLIN | EPOLLET, {.u64 = kBell}};
  const long error = sys::call(SYS_epoll_ctl, epoll_, EPOLL_CTL_ADD, bell_, &event);
  if (error < 0) {
    close();
    errno = static_cast<int>(-error);
    return false;
  }
  return true;
}

void EpollPoller::close() noexcept {
  close_private_fd(bell_);
  close_private_fd(epoll_);
  bell_ = epoll_ = -1;
}

void EpollPoller::renew() noexcept {
  close();
  interrupted_ = false;
  WEFT_ASSERT(open());
}

void EpollPoller::interrupt() noexcept {
  const uint64_t one = 1;
  sys::call(SYS_write, bell_, &one, sizeof one);
}

bool EpollPoller::has_events() noexcept {
  pollfd descriptor{epoll_, POLLIN, 0};
  const sys::Timespec at_once{0, 0};
  return sys::call(SYS_ppoll, &descriptor, 1, &at_once, nullptr, 0) > 0;
}

long EpollPoller::control(int operation, const FdEntry& entry, int fd, uint32_t events) noexcept {
  epoll_event event{events | EPOLLONESHOT,
                    {.u64 = uint64_t{entry.generation} << 32 | static_cast<uint32_t>(fd)}};
  return sys::call(SYS_epoll_ctl, epoll_, operation, fd, &event);
}

// The number was closed, and perhaps reused, without a word to us. Those who still wait for the former file
// would wait for ever, or be told of the new one. Others may wait for the new one already, on pollers which
// know it: the kernel tells.
void EpollPoller::file_is_gone(FdEntry& entry, int fd) noexcept {
  entry.next_file();
  for (FdWait* next = entry.waits.front(); next;) {
    FdWait& wait = *next;
    next = entry.waits.after(wait);
    if (wait.poller->backend() != Backend::kEpoll)
      continue;  // its poll holds on to the former file, and will end
    auto& poller = static_cast<EpollPoller&>(*wait.poller);
    const auto wanted = static_cast<uint16_t>(entry.armed | (wait.events & ~kAlwaysReported));
    if (&poller != this && poller.control(EPOLL_CTL_MOD, entry, fd, wanted) == 0) {
      entry.armed = wanted;
      entry.registered |= poller.bit();
      continue;
    }
    wait.unlink();
    end_closed(wait);
  }
}

// Returns 0 or a negated errno. REQUIRES: entry.lock held, `wait` not on the list yet.
long EpollPoller::register_wait(FdEntry& entry, FdWait& wait) noexcept {
  const auto wanted = static_cast<uint16_t>(wait.events & ~kAlwaysReported);
  if (entry.registered & bit()) {
    const long error = control(EPOLL_CTL_MOD, entry, wait.fd, uint32_t{entry.armed} | wanted);
    if (error == 0) {
      entry.armed |= wanted;
      return 0;
    }
    file_is_gone(entry, wait.fd);
    if (error != -ENOENT) return error;
  }
  const uint32_t events = uint32_t{entry.armed} | wanted;
  long error = control(EPOLL_CTL_ADD, entry, wait.fd, events);
  if (error == -EEXIST) error = control(EPOLL_CTL_MOD, entry, wait.fd, events);
  if (error < 0) return error;
  entry.armed |= wanted;
  entry.registered |= bit();
  return 0;
}

void EpollPoller::arm(FdWait& wait) noexcept {
  FdEntry* entry = FdTable::at(wait.fd);
  wait.entry = entry;
  long error = -ENOMEM;
  if (entry) {
    Guard guard(entry->lock);
    entry->open();
    error = register_wait(*entry, wait);
    // A file that is always ready, but not for what is waited for, never will be: only closing() can end
    // that.
    if (error == 0 || (error == -EPERM && (wait.events & kAlwaysReady) == 0)) {
      entry->waits.push_back(wait);
      return;
    }
  }
  // Without memory, or beyond a limit on watches, the fiber is told to try; it comes back here if it must,
  // and all others run meanwhile: a busy loop, but no hang.
  wait.revents = error == -EPERM   ? static_cast<short>(wait.events & kAlwaysReady)
                 : error == -EBADF ? POLLNVAL
                                   : POLLERR;
  wait.fiber->unpark(wait.ticket, Wake::kReady);
}

void EpollPoller::disarm(std::span<FdWait> waits, Wake wake) noexcept {
  // A single wait that saw something was taken off the list, by this very thread, before its fiber was
  // unparked. Not so with kClosed: the lock shows that another thread's closing() is done with this carrier.
  if (waits.size() == 1 && wake == Wake::kReady && waits[0].revents != 0) return;
  for (FdWait& wait : waits) {
    if (wait.fd < 0 || !wait.entry) continue;
    Guard guard(wait.entry->lock);
    if (wait.linked()) wait.unlink();
    // The registration stays armed: its event, if it comes, finds nobody, and disarms it.
  }
  if (wake == Wake::kTimeout) poll_now(waits);
}

void EpollPoller::deregister(FdEntry&, int fd) noexcept {
  // Before Linux 2.6.9 the event must not be null; closed behind our back, it is not registered any more.
  epoll_event event{};
  sys::call(SYS_epoll_ctl, epoll_, EPOLL_CTL_DEL, fd, &event);
}

int EpollPoller::collect(Nanos timeout) noexcept {
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif
  static constinit std::atomic<bool> precise{true};
  if (timeout == 0) return static_cast<int>(sys::call(SYS_epoll_wait, epoll_, events_, kEventsAtOnce, 0));
  if (timeout == kNever)
    return static_cast<int>(sys::call(SYS_epoll_wait, epoll_, events_, kEventsAtOnce, -1));
  if (precise.load(std::memory_order_relaxed)) {
    const sys::Timespec limit{timeout / kSecond, timeout % kSecond};
    const long count = sys::call(SYS_epoll_pwait2, epoll_, events_, kEventsAtOnce, &limit, nullptr, 0);
    if (count != -ENOSYS && count != -EPERM) return static_cast<int>(count);
    precise.store(false, std::memory_order_relaxed);  // before Linux 5.11, or a sandbox that does not know it
  }
  // Rounded up, lest the carrier spins through the last millisecond.
  const Nanos milliseconds = std::min<Nanos>((timeout - 1) / kMillisecond + 1, INT32_MAX);
  return static_cast<int>(sys::call(SYS_epoll_wait, epoll_, events_, kEventsAtOnce, milliseconds));
}

void EpollPoller::poll(Nanos timeout) noexcept {
  if (timeout == 0 && waiting() == 0) return;
  const int count = collect(interrupted_ ? 0 : timeout);
  for (int i = 0; i < count; ++i) {
    if (events_[i].data.u64 == kBell)
      interrupted_ = true;
    else
      deliver(events_[i]);
  }
  if (timeout != 0) interrupted_ = false;
}

void EpollPoller::deliver(const epoll_event& event) noexcept {
  const int fd = static_cast<int>(event.data.u64 & 0xffffffffu);
  FdEntry& entry = *FdTable::at(fd);
  Guard guard(entry.lock);
  if (entry.generation != event.data.u64 >> 32) return;
  uint16_t wanted = 0, wanted_by_all = 0;
  bool waits_left = false;
  for (FdWait* next = entry.waits.front(); next;) {
    FdWait& wait = *next;
    next = entry.waits.after(wait);
    const auto asked = static_cast<uint16_t>(wait.events & ~kAlwaysReported);
    if (wait.poller != this) {
      wanted_by_all |= asked;
      continue;
    }
    const auto seen = static_cast<short>(event.events & static_cast<uint16_t>(asked | kAlwaysReported));
    if (seen == 0) {
      wanted |= asked;
      waits_left = true;
      continue;
    }
    wait.revents = seen;
    wait.unlink();
    wait.fiber->unpark(wait.ticket, Wake::kReady);
  }
  entry.armed = wanted_by_all | wanted;
  if (waits_left && control(EPOLL_CTL_MOD, entry, fd, wanted) < 0) file_is_gone(entry, fd);
}

}  // namespace weft::engine
