// Connecting, to whichever of several addresses answers first: RFC 8305 ("Happy Eyeballs"), section 5.
#include <netinet/tcp.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "fiber/sys.hpp"
#include "net/wait.hpp"
#include "weft/net/detail.hpp"

namespace weft::net::detail {

namespace sys = engine::sys;

namespace {

constexpr Nanos kFirstPause = 50 * engine::kMicrosecond, kLongestPause = 5 * engine::kMillisecond;

// Errors that say no more than that this machine has no way there.
bool says_little(long error) noexcept {
  switch (-error) {
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
    case EINVAL:  // of a local address of another family
      return true;
    default:
      return false;
  }
}

class Race {
 public:
  Race(const Address* addresses, size_t count, const ConnectRequest& request, Nanos deadline) noexcept
      : addresses_(addresses),
        count_(std::min(count, kMaxAddresses)),
        request_(request),
        deadline_(deadline) {
    put_in_order();
  }
  ~Race() {
    for (size_t i = 0; i < running_; ++i) close_now(attempts_[i].fd);
  }
  Race(const Race&) = delete;
  Race& operator=(const Race&) = delete;

  IoResult run(size_t* connected) noexcept {
    for (;;) {
      while (may_start()) {
        if (const IoResult begun = start(order_[next_++], connected);
            begun.value >= 0 || begun.outcome != Outcome::kReady)
          return begun;
      }
      if (running_ == 0) return {error_ ? error_ : -EINVAL};
      const bool more = next_ < count_ && running_ < kMaxNative;
      const Nanos until = more ? std::min(deadline_, next_start_) : deadline_;
      engine::FdWait waits[kMaxNative];
      for (size_t i = 0; i < running_; ++i) {
        waits[i].fd = attempts_[i].fd;
        waits[i].events = POLLOUT;
      }
      const Outcome outcome = wait_for({waits, running_}, until, "connect");
      if (outcome == Outcome::kTimeout && until < deadline_) continue;
      if (outcome != Outcome::kReady && outcome != Outcome::kClosed) return {0, outcome};
      // From the last: one that failed has its place taken by one that was looked at already.
      for (size_t i = running_; i-- > 0;) {
        if (waits[i].revents == 0) continue;
        if (const int fd = finish(i, connected); fd >= 0) return {fd};
      }
    }
  }

 private:
  struct Attempt {
    int fd;
    uint8_t index;
  };
  static_assert(kMaxAddresses <= UINT8_MAX);

  // Section 4: the families take turns, beginning with that of the first.
  void put_in_order() noexcept {
    const auto same = [this](size_t i) { return addresses_[i].family() == addresses_[0].family(); };
    size_t first = 0, other = 0, place = 0;
    while (place < count_) {
      while (first < count_ && !same(first)) ++first;
      if (first < count_) order_[place++] = static_cast<uint8_t>(first++);
      while (other < count_ && same(other)) ++other;
      if (other < count_) order_[place++] = static_cast<uint8_t>(other++);
    }
  }

  bool may_start() const noexcept {
    return next_ < count_ && running_ < kMaxNative && (running_ == 0 || now() >= next_start_);
  }

  void note(long error) noexcept {
    if (error_ == 0 || (says_little(error_) && !says_little(error))) error_ = error;
    next_start_ = 0;  // no reason to wait for what comes next
  }

  // The value is a connected descriptor, or -EINPROGRESS.
  IoResult start(uint8_t index, size_t* connected) noexcept {
    const Address& address = addresses_[index];
    const long fd = sys::call(SYS_socket, address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
      note(fd);
      return {-EINPROGRESS};
    }
    IoResult result = prepare(static_cast<int>(fd), address);
    if (result.value == 0) result = connect(static_cast<int>(fd), address);
    if (result.outcome == Outcome::kReady && result.value == 0) {
      *connected = index;
      return {fd};
    }
    if (result.value == -EINPROGRESS) {
      attempts_[running_++] = {static_cast<int>(fd), index};
      next_start_ = engine::later(now(), std::max(request_.stagger, Nanos{0}));
      return result;
    }
    close_now(static_cast<int>(fd));
    if (result.outcome != Outcome::kReady) return result;
    note(result.value);
    return {-EINPROGRESS};
  }

  IoResult prepare(int fd, const Address& address) noexcept {
    const int on = 1;
    if (request_.no_delay && address.is_ip())
      sys::call(SYS_setsockopt, fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!request_.local || !*request_.local) return {0};
    // Lets the kernel choose the port when it knows the peer, so that one port serves many peers.
    if (address.is_ip() && request_.local->port() == 0)
      sys::call(SYS_setsockopt, fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    return {sys::call(SYS_bind, fd, request_.local->data(), request_.local->size())};
  }

  IoResult connect(int fd, const Address& address) noexcept {
    for (Nanos pause = kFirstPause;; pause = std::min(pause * 2, kLongestPause)) {
      long result = sys::call(SYS_connect, fd, address.data(), address.size());
      if (result == -EINTR) continue;
      if (result != -EAGAIN || !address.is_unix()) return {result};
      // The listener's queue is full, and no event will tell when there is room.
      const Nanos until = engine::later(now(), pause);
      const Outcome outcome = wait_for({}, std::min(until, deadline_), "connect");
      if (outcome != Outcome::kTimeout || until >= deadline_) return {-EAGAIN, outcome};
    }
  }

  // An attempt is said to be over. The connected descriptor, or -1.
  int finish(size_t place, size_t* connected) noexcept {
    const Attempt attempt = attempts_[place];
    const Address& address = addresses_[attempt.index];
    int error = 0;
    socklen_t size = sizeof error;
    long result = sys::call(SYS_getsockopt, attempt.fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (result == 0 && error) result = -error;
    // Asked again, connect(2) tells whether it is connected.
    if (result == 0) result = sys::call(SYS_connect, attempt.fd, address.data(), address.size());
    if (result == -EALREADY || result == -EINPROGRESS) return -1;
    attempts_[place] = attempts_[--running_];
    if (result == 0 || result == -EISCONN) {
      *connected = attempt.index;
      return attempt.fd;
    }
    close_now(attempt.fd);
    note(result);
    return -1;
  }

  const Address* addresses_;
  size_t count_;
  const ConnectRequest& request_;
  Nanos deadline_;
  uint8_t order_[kMaxAddresses];
  size_t next_ = 0;
  Attempt attempts_[kMaxNative];
  size_t running_ = 0;
  Nanos next_start_ = 0;
  long error_ = 0;
};

}  // namespace

IoResult connect_stream(const Address* addresses, size_t count, const ConnectRequest& request, Nanos deadline,
                        size_t* connected) noexcept {
  if (const Outcome revoked = begin_operation(); revoked != Outcome::kReady) return {0, revoked};
  return Race(addresses, count, request, deadline).run(connected);
}

}  // namespace weft::net::detail
