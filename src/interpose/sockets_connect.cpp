// Accepting and connecting: the two calls that know no MSG_DONTWAIT.
//
// accept. Readiness does not mean that accept(2) will not block: another process that shares the listener may
// be faster, and the carrier would stand still until somebody else connects. With io_uring the kernel is
// asked to accept without waiting. Without it a thread of the pool accepts, once poll(2) says that there is
// something to accept; one fiber at a time for each listener, lest a hundred that wait for one connection
// take a hundred threads. If that connection is stolen all the same, the thread waits for the next one, and
// the fiber, which cannot be interrupted meanwhile, with it.
//
// connect. O_NONBLOCK is set for the microseconds of the system call itself, and put back. Somebody who reads
// from the same description in that very moment, in another process or OS thread, may see EAGAIN; on a socket
// that is not connected yet there is nothing to read.
#include <fcntl.h>
#include <poll.h>

#include <atomic>

#include "interpose/descriptor_state.hpp"
#include "interpose/sockets_ring.hpp"
#include "interpose/sockets_wait.hpp"
#include "poll/offload_pool.hpp"

namespace weft::engine::interpose {

namespace {

bool readable(int fd) noexcept {
  FdWait now;
  now.fd = fd;
  now.events = POLLIN;
  return poll_now({&now, 1}) > 0;
}

// Lets one fiber at a time accept through the pool. Listeners may share a gate.
class AcceptGate {
 public:
  static AcceptGate& of(int fd) noexcept { return gates_[static_cast<unsigned>(fd) % kGates]; }

  Wake enter(IoWait& wait, int fd) noexcept {
    while (taken_.exchange(true, std::memory_order_acquire)) {
      const Wake wake = ParkingLot::instance().park(
          this, wait.deadline(), wait.flags(), {WaitKind::kIo, "accept", nullptr, fd},
          [this]() noexcept { return taken_.load(std::memory_order_relaxed); });
      if (wake != Wake::kReady) return wake;
    }
    return Wake::kReady;
  }
  void leave() noexcept {
    taken_.store(false, std::memory_order_release);
    ParkingLot::instance().wake_one(this);
  }

 private:
  static constexpr unsigned kGates = 64;
  static AcceptGate gates_[kGates];
  std::atomic<bool> taken_{false};
};

constinit AcceptGate AcceptGate::gates_[kGates];

// -EAGAIN: try again.
long accept_by_pool(int fd, sockaddr* address, socklen_t* address_length, int flags, IoWait& wait) noexcept {
  if (!readable(fd)) return -EAGAIN;
  AcceptGate& gate = AcceptGate::of(fd);
  const Wake wake = gate.enter(wait, fd);
  if (wake == Wake::kInterrupted) return -EINTR;
  if (const int error = revocation_error(wake)) return -error;
  long result = -EAGAIN;
  if (readable(fd)) {
    OffloadPool::instance().run(
        "accept", [&]() noexcept { result = sys::call(SYS_accept4, fd, address, address_length, flags); },
        Turn::kNext);
  }
  gate.leave();
  return result;
}

// Families whose listeners do not say so with SO_ACCEPTCONN (Bluetooth) or that accept without listening
// (AF_ALG).
bool accepts_unusually(int fd) noexcept {
  const int domain = socket_option(fd, SO_DOMAIN);
  return domain >= 0 && domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX && domain != AF_VSOCK;
}

long accept_without_ring(int fd, sockaddr* address, socklen_t* address_length, int flags,
                         IoWait& wait) noexcept {
  // What is no listener fails at once, and one with O_NONBLOCK never waits.
  const int listening = socket_option(fd, SO_ACCEPTCONN);
  if (is_nonblocking(fd) != 0 || (listening <= 0 && !accepts_unusually(fd)))
    return WEFT_TRY(accept4, fd, address, address_length, flags);
  if (listening > 0) return accept_by_pool(fd, address, address_length, flags, wait);
  long result = -EAGAIN;
  OffloadPool::instance().run(
      "accept", [&]() noexcept { result = sys::call(SYS_accept4, fd, address, address_length, flags); });
  return result;
}

long accept_connection(int fd, sockaddr* address, socklen_t* address_length, int flags,
                       const char* call) noexcept {
  if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK))
    return WEFT_TRY(accept4, fd, address, address_length, flags);  // fails
  IoWait wait(fd, POLLIN, call);
  for (;;) {
    long result = kNoRing;
    if (Poller::of_this_carrier().backend() == Backend::kIoUring)
      result = accept_by_ring(fd, address, address_length, flags);
    if (result == kNoRing) result = accept_without_ring(fd, address, address_length, flags, wait);
    if (result != -EAGAIN) return result;
    if (const int error = wait.next()) return -error;
  }
}

// connect(2) with O_NONBLOCK set for the call.
long connect_now(int fd, const sockaddr* address, socklen_t address_length) noexcept {
  const long flags = sys::call(SYS_fcntl, fd, F_GETFL);
  if (flags < 0) return flags;
  if (!(flags & O_NONBLOCK)) sys::call(SYS_fcntl, fd, F_SETFL, flags | O_NONBLOCK);
  long result = WEFT_TRY(connect, fd, address, address_length);
  // On this machine the other end has answered by now.
  if (result == -EINPROGRESS) {
    const long again = WEFT_TRY(connect, fd, address, address_length);
    if (again != -EALREADY) result = again;
  }
  if (!(flags & O_NONBLOCK)) sys::call(SYS_fcntl, fd, F_SETFL, flags);
  return result;
}

bool never_waits(int type) noexcept {
  return type < 0 || type == SOCK_DGRAM || type == SOCK_RAW;
}

long connect_socket(int fd, const sockaddr* address, socklen_t address_length) noexcept {
  if (is_nonblocking(fd) != 0 || never_waits(socket_option(fd, SO_TYPE)))
    return WEFT_TRY(connect, fd, address, address_length);
  int timeout_error = EINPROGRESS;
  long result = connect_now(fd, address, address_length);
  if (result == -EALREADY)
    timeout_error = EALREADY;  // an earlier call was interrupted: this one waits for its end
  if (result == -EAGAIN) timeout_error = EAGAIN;
  IoWait wait(fd, POLLOUT, "connect", timeout_error);
  for (;;) {
    int error;
    if (result == -EAGAIN)
      error = wait.next_blindly();  // AF_UNIX: the listener's queue is full, which no event tells
    else if (result == -EINPROGRESS || result == -EALREADY)
      error = wait.next();
    else
      return result;
    if (error) return -error;
    // The second call tells how the first ended, and makes the socket know that it is connected.
    result = connect_now(fd, address, address_length);
  }
}

}  // namespace

int routed::accept(int fd, sockaddr* address, socklen_t* address_length) noexcept {
  WEFT_STRAIGHT(accept, fd, address, address_length)
  return static_cast<int>(libc_result(accept_connection(fd, address, address_length, 0, "accept")));
}

int routed::accept4(int fd, sockaddr* address, socklen_t* address_length, int flags) noexcept {
  WEFT_STRAIGHT(accept4, fd, address, address_length, flags)
  return static_cast<int>(libc_result(accept_connection(fd, address, address_length, flags, "accept4")));
}

int routed::connect(int fd, const sockaddr* address, socklen_t address_length) noexcept {
  WEFT_STRAIGHT(connect, fd, address, address_length)
  return static_cast<int>(libc_result(connect_socket(fd, address, address_length)));
}

int routed::setsockopt(int fd, int level, int option, const void* value, socklen_t size) noexcept {
  note_socket_option(level, option);
  return real::setsockopt(fd, level, option, value, size);
}

}  // namespace weft::engine::interpose
