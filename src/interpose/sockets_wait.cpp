#include "interpose/sockets_wait.hpp"

#include "interpose/descriptor_state.hpp"

namespace weft::engine::interpose {

namespace {

constexpr Nanos kFirstPause = 50 * kMicrosecond, kLongestPause = 5 * kMillisecond;

}  // namespace

void IoWait::start() noexcept {
  if (deadline_ != 0) return;
  const Nanos limit = socket_time_limit(wait_.fd, wait_.events);
  deadline_ = limit == kNever ? kNever : later(monotonic_now(), limit);
  // signal(7): with a time limit a call is never restarted.
  flags_ = static_cast<uint8_t>(kCancellable | kInterruptible | (limit == kNever ? kRestartable : 0));
}

int IoWait::finish(Wake wake) noexcept {
  switch (wake) {
    case Wake::kReady:
      return 0;
    case Wake::kTimeout:
      return timeout_error_;
    case Wake::kCancelled:
    case Wake::kExpired:
      return revocation_error(wake);
    case Wake::kClosed:
      return EBADF;
    case Wake::kInterrupted:
      break;
  }
  // The kernel, too, looks once more for data before it reports a signal.
  last_error_ = EINTR;
  return 0;
}

int IoWait::next() noexcept {
  if (last_error_) return last_error_;
  if (!asked_) {
    const int nonblocking = is_nonblocking(wait_.fd);
    if (nonblocking) return nonblocking < 0 ? -nonblocking : EAGAIN;
    asked_ = true;
    start();
  } else if (in_vain_ >= 0 && poll_now({&wait_, 1}) > 0) {
    // Ready, and yet the last attempt would have blocked. Once, somebody else may have been faster. But some
    // sockets claim to be writable while the receiver's queue is full (AF_UNIX datagrams with an address,
    // netlink).
    return ++in_vain_ < 2 ? 0 : next_blindly();
  }
  in_vain_ = 0;
  pause_ = 0;
  return finish(Poller::of_this_carrier().wait({&wait_, 1}, deadline_, flags_, call_));
}

int IoWait::next_blindly() noexcept {
  if (last_error_) return last_error_;
  start();
  pause_ = pause_ == 0 ? kFirstPause : pause_ * 2 > kLongestPause ? kLongestPause : pause_ * 2;
  const Nanos until = later(monotonic_now(), pause_);
  const Wake wake = Poller::of_this_carrier().wait({}, until < deadline_ ? until : deadline_, flags_, call_);
  return wake == Wake::kTimeout && until < deadline_ ? 0 : finish(wake);
}

}  // namespace weft::engine::interpose
