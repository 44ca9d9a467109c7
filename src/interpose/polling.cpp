// poll, epoll_wait and kin. The kernel's own call answers, with a timeout of 0; between two such calls the
// fiber waits for all descriptors at once, for an epoll set by waiting for the set's own descriptor.
#include "interpose/polling_wait.hpp"
#include "interpose/signals.hpp"

namespace weft::engine::interpose {

namespace {

constexpr sys::Timespec kAtOnce{0, 0};

// Descriptors that were closed during the wait, as poll(2) shows those that are not open.
int report_closed(pollfd* descriptors, std::span<const FdWait> waits) noexcept {
  int ready = 0;
  for (size_t i = 0; i < waits.size(); ++i) {
    if (waits[i].closed) descriptors[i].revents = POLLNVAL;
    ready += descriptors[i].revents != 0;
  }
  return ready;
}

// Parks until a descriptor is ready. REQUIRES: none was a moment ago. Returns a count or a negated errno.
long wait_for_any(pollfd* descriptors, size_t count, Nanos deadline, const char* call) noexcept {
  WaitArray waits(count);
  if (!waits) return -ENOMEM;
  for (size_t i = 0; i < count; ++i) {
    waits[i].fd = descriptors[i].fd;
    waits[i].events = descriptors[i].events;
  }
  for (;;) {
    const Wake wake = Poller::of_this_carrier().wait(waits.all(), deadline, kPollFlags, call);
    if (const int error = revocation_error(wake)) return -error;
    if (wake == Wake::kReady && count == 1 && !(waits[0].revents & POLLNVAL)) {
      descriptors[0].revents = waits[0].revents;
      return 1;
    }
    const long ready = WEFT_TRY(poll, descriptors, count, 0);
    if (wake == Wake::kClosed) return report_closed(descriptors, waits.all());
    if (ready != 0) return ready;
    if (wake == Wake::kTimeout) return 0;
    if (const int error = error_of(wake)) return -error;
  }
}

int poll_as_fiber(pollfd* descriptors, nfds_t count, int timeout, const char* call) noexcept {
  const Nanos deadline = deadline_of(timeout);
  const long ready = WEFT_TRY(poll, descriptors, count, 0);
  if (ready != 0) return static_cast<int>(libc_result(ready));
  return static_cast<int>(libc_result(wait_for_any(descriptors, count, deadline, call)));
}

int ppoll_as_fiber(pollfd* descriptors, nfds_t count, const timespec* timeout,
                   const sigset_t* mask) noexcept {
  if (!valid_timeout(timeout)) return fail(EINVAL);
  const Nanos deadline = deadline_of(timeout);
  // With the mask: a signal that is pending and that it lets through is handled now, and interrupts, unless
  // there is something to report.
  const long ready = sys::call(SYS_ppoll, descriptors, count, &kAtOnce, mask_bits(mask), kMaskSize);
  if (ready != 0 || is_zero(timeout)) return static_cast<int>(libc_result(ready));
  SignalMaskScope scope(mask);
  if (scope.interrupted()) return fail(EINTR);
  return static_cast<int>(libc_result(wait_for_any(descriptors, count, deadline, "ppoll")));
}

// Calls attempt(), which asks the set without waiting, until there are events. Returns a count or a negated
// errno.
template <typename Attempt>
long wait_for_events(int set, Nanos deadline, const char* call, Attempt&& attempt) noexcept {
  for (;;) {
    const Wake wake = Poller::of_this_carrier().wait(set, POLLIN, deadline, kPollFlags, call);
    if (const int error = revocation_error(wake)) return -error;
    if (wake == Wake::kClosed) return -EBADF;
    const long ready = attempt();
    if (ready != 0) return ready;
    if (wake == Wake::kTimeout) return 0;
    if (const int error = error_of(wake)) return -error;
  }
}

int epoll_as_fiber(int set, epoll_event* events, int count, Nanos deadline, const sigset_t* mask,
                   const char* call) noexcept {
  const auto attempt = [&]() noexcept { return WEFT_TRY(epoll_wait, set, events, count, 0); };
  const long ready = attempt();
  if (ready != 0 || deadline == 0) return static_cast<int>(libc_result(ready));
  if (mask) {
    // Unlike ppoll(2), epoll_pwait(2) lets no pending signal through when it is not to wait.
    pollfd one{set, POLLIN, 0};
    if (sys::call(SYS_ppoll, &one, 1, &kAtOnce, mask_bits(mask), kMaskSize) == -EINTR) return fail(EINTR);
  }
  SignalMaskScope scope(mask);
  if (scope.interrupted()) return fail(EINTR);
  return static_cast<int>(libc_result(wait_for_events(set, deadline, call, attempt)));
}

}  // namespace

int routed::poll(pollfd* descriptors, nfds_t count, int timeout) noexcept {
  if (timeout == 0) {
    give_way();
    return real::poll(descriptors, count, timeout);
  }
  WEFT_STRAIGHT(poll, descriptors, count, timeout)
  return poll_as_fiber(descriptors, count, timeout, "poll");
}

int routed::__poll_chk(pollfd* descriptors, nfds_t count, int timeout, size_t size) noexcept {
  if (size / sizeof *descriptors < count)
    return real::__poll_chk(descriptors, count, timeout, size);  // aborts
  if (timeout == 0) {
    give_way();
    return real::poll(descriptors, count, timeout);
  }
  WEFT_STRAIGHT(poll, descriptors, count, timeout)
  return poll_as_fiber(descriptors, count, timeout, "poll");
}

int routed::ppoll(pollfd* descriptors, nfds_t count, const timespec* timeout, const sigset_t* mask) noexcept {
  WEFT_STRAIGHT(ppoll, descriptors, count, timeout, mask)
  return ppoll_as_fiber(descriptors, count, timeout, mask);
}

int routed::__ppoll_chk(pollfd* descriptors, nfds_t count, const timespec* timeout, const sigset_t* mask,
                        size_t size) noexcept {
  if (size / sizeof *descriptors < count)  // aborts
    return real::__ppoll_chk(descriptors, count, timeout, mask, size);
  WEFT_STRAIGHT(ppoll, descriptors, count, timeout, mask)
  return ppoll_as_fiber(descriptors, count, timeout, mask);
}

int routed::epoll_wait(int set, epoll_event* events, int count, int timeout) noexcept {
  if (timeout == 0) {
    give_way();
    return real::epoll_wait(set, events, count, timeout);
  }
  WEFT_STRAIGHT(epoll_wait, set, events, count, timeout)
  return epoll_as_fiber(set, events, count, deadline_of(timeout), nullptr, "epoll_wait");
}

int routed::epoll_pwait(int set, epoll_event* events, int count, int timeout, const sigset_t* mask) noexcept {
  WEFT_STRAIGHT(epoll_pwait, set, events, count, timeout, mask)
  return epoll_as_fiber(set, events, count, timeout == 0 ? 0 : deadline_of(timeout), mask, "epoll_pwait");
}

int routed::epoll_pwait2(int set, epoll_event* events, int count, const timespec* timeout,
                         const sigset_t* mask) noexcept {
  WEFT_STRAIGHT(epoll_pwait2, set, events, count, timeout, mask)
  if (!valid_timeout(timeout)) return fail(EINVAL);
  return epoll_as_fiber(set, events, count, is_zero(timeout) ? 0 : deadline_of(timeout), mask,
                        "epoll_pwait2");
}

}  // namespace weft::engine::interpose
