#include "net/wait.hpp"

#include <poll.h>

#include <cerrno>

#include "fiber/assert.hpp"
#include "fiber/sys.hpp"
#include "weft/detail/io.hpp"

namespace weft::detail {

namespace {

Outcome wait_natively(std::span<engine::FdWait> waits, Nanos deadline) noexcept {
  WEFT_ASSERT(waits.size() <= kMaxNative);
  pollfd descriptors[kMaxNative];
  for (size_t i = 0; i < waits.size(); ++i) descriptors[i] = {waits[i].fd, waits[i].events, 0};
  const long count = engine::poll_until({descriptors, waits.size()}, deadline);
  for (size_t i = 0; i < waits.size(); ++i)
    waits[i].revents = count > 0 ? descriptors[i].revents : static_cast<short>(count < 0 ? POLLERR : 0);
  return count == 0 ? Outcome::kTimeout : Outcome::kReady;
}

}  // namespace

Outcome wait_for(std::span<engine::FdWait> waits, Nanos deadline, const char* call,
                 const engine::Poller::Announcement* announcement) noexcept {
  if (!switchable_fiber()) return wait_natively(waits, deadline);
  return outcome_of(
      engine::Poller::of_this_carrier().wait(waits, deadline, engine::kCancellable, call, announcement));
}

Outcome begin_operation() noexcept {
  engine::Fiber* fiber = switchable_fiber();
  if (!fiber) return Outcome::kReady;
  fiber->carrier().give_way();
  return outcome_of(fiber->revocation());
}

long close_now(int fd) noexcept {
  engine::Poller::closing(fd);
  return engine::sys::call(SYS_close, fd);
}

IoResult wait_for_descriptor(int fd, short events, Nanos deadline, const char* call) noexcept {
  if (const Outcome revoked = begin_operation(); revoked != Outcome::kReady) return {0, revoked};
  if (fd < 0) return {-EBADF};
  engine::FdWait one;
  one.fd = fd;
  one.events = events;
  const Outcome outcome = wait_for({&one, 1}, deadline, call);
  if (outcome == Outcome::kClosed || (outcome == Outcome::kReady && one.revents & POLLNVAL)) return {-EBADF};
  return {0, outcome};
}

int close_descriptor(int fd) noexcept {
  return static_cast<int>(close_now(fd));
}

}  // namespace weft::detail
