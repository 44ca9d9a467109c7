// Receiving. One attempt that does not block, then waits; MSG_WAITALL and SO_RCVLOWAT, which the kernel heeds
// only where it may block, take a loop.
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "interpose/descriptor_state.hpp"
#include "interpose/sockets_transfer.hpp"
#include "interpose/sockets_vector.hpp"
#include "interpose/sockets_wait.hpp"

namespace weft::engine::interpose {

namespace {

// These never wait, whatever the socket.
constexpr int kNeverWaits = MSG_DONTWAIT | MSG_ERRQUEUE | MSG_OOB;

template <typename Attempt>
long receive(int fd, int flags, const char* call, Attempt&& attempt) noexcept {
  long result = attempt();
  if (result != -EAGAIN || (flags & kNeverWaits)) [[likely]]
    return result;
  IoWait wait(fd, POLLIN, call);
  while (result == -EAGAIN) {
    if (const int error = wait.next()) return -error;
    result = attempt();
  }
  return result;
}

int bytes_ready(int fd) noexcept {
  int bytes = 0;
  return sys::call(SYS_ioctl, fd, FIONREAD, &bytes) < 0 ? 0 : bytes;
}

bool has_ended(int fd) noexcept {
  FdWait end;
  end.fd = fd;
  end.events = POLLRDHUP;
  return poll_now({&end, 1}) > 0;
}

// A message that is being received piece by piece.
class PiecewiseReceive {
 public:
  PiecewiseReceive(int fd, msghdr& message, int flags) noexcept
      : fd_(fd), message_(message), flags_(flags), cursor_(message) {}

  size_t received() const noexcept { return received_; }
  bool has_rights() const noexcept { return rights_; }

  // Returns what the attempt does.
  long attempt() noexcept {
    msghdr piece = message_;
    cursor_.put_into(piece);
    const size_t asked = BufferCursor::size_of(piece);
    const long result = WEFT_TRY(recvmsg, fd_, &piece, flags_ | MSG_DONTWAIT);
    if (result < 0) return result;
    if (received_ == 0 || result > 0) {
      message_.msg_namelen = piece.msg_namelen;
      message_.msg_flags = piece.msg_flags;
      if (received_ == 0 || piece.msg_controllen > 0) control_length_ = piece.msg_controllen;
      rights_ = has_descriptors(piece);
    }
    if (flags_ & MSG_PEEK) {
      received_ = static_cast<size_t>(result);  // each look begins anew
    } else {
      received_ += static_cast<size_t>(result);
      cursor_.advance(static_cast<size_t>(result));
    }
    more_ = static_cast<size_t>(result) == asked;
    return result;
  }
  // The last attempt got all that it asked for.
  bool may_have_more() const noexcept { return more_; }
  // What libc's caller is to see.
  void publish() noexcept { message_.msg_controllen = control_length_; }

 private:
  int fd_;
  msghdr& message_;
  int flags_;
  BufferCursor cursor_;
  size_t received_ = 0;
  size_t control_length_ = 0;
  bool rights_ = false;
  bool more_ = false;
};

// Receives until there are `target` bytes, as a blocking call on a stream does; stops early at the end of the
// stream, an error, a signal, or at descriptors, which the kernel never glues to what follows them.
long receive_until(int fd, msghdr& message, int flags, size_t target, const char* call) noexcept {
  PiecewiseReceive pieces(fd, message, flags);
  IoWait wait(fd, POLLIN, call);
  bool stream = false;
  for (;;) {
    const long result = pieces.attempt();
    if (result < 0 && result != -EAGAIN && pieces.received() == 0) return result;
    if (result == 0 || (result < 0 && result != -EAGAIN) || pieces.received() >= target) break;
    if (result > 0) {
      if (!stream && !(stream = socket_option(fd, SO_TYPE) == SOCK_STREAM)) break;
      if (pieces.has_rights() || ((flags & MSG_PEEK) && socket_option(fd, SO_DOMAIN) == AF_UNIX)) break;
      wait.progressed();
      if (pieces.may_have_more()) continue;
    }
    // To peek at more than there is there is no event: what was peeked at is ready all the time. Nor is there
    // one for the rest that is less than SO_RCVLOWAT.
    const bool blind = pieces.received() > 0 && ((flags & MSG_PEEK) || receive_low_water(fd) > 1);
    if (blind && (is_nonblocking(fd) || has_ended(fd))) break;
    if (const int error = blind ? wait.next_blindly() : wait.next()) {
      if (pieces.received() == 0) return -error;
      break;
    }
    // An attempt now would take the error away from the next call, to which it belongs.
    if (pieces.received() > 0 && (wait.seen() & POLLERR) && bytes_ready(fd) == 0) break;
  }
  pieces.publish();
  return static_cast<long>(pieces.received());
}

// Has a receive of `length` bytes wait until SO_RCVLOWAT is satisfied. There is no event for that if `length`
// is less. Returns 0 or an errno.
int wait_for_low_water(int fd, size_t length, int flags, const char* call) noexcept {
  const auto wanted = static_cast<int>(std::min(length, receive_low_water(fd)));
  if (wanted <= 1 || (flags & kNeverWaits) || is_nonblocking(fd) || socket_option(fd, SO_TYPE) != SOCK_STREAM)
    return 0;
  IoWait wait(fd, POLLIN, call);
  while (bytes_ready(fd) < wanted && !has_ended(fd))
    if (const int error = wait.next_blindly()) return bytes_ready(fd) > 0 ? 0 : error;
  return 0;
}

ssize_t receive_buffer(int fd, void* buffer, size_t length, int flags, sockaddr* address,
                       socklen_t* address_length, const char* call) noexcept {
  if ((flags & MSG_WAITALL) && !(flags & kNeverWaits)) {
    iovec vector{buffer, length};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_name = address;
    message.msg_namelen = address && address_length ? *address_length : 0;
    const long result = receive_until(fd, message, flags, length, call);
    if (result >= 0 && address && address_length) *address_length = message.msg_namelen;
    return libc_result(result);
  }
  if (const int error = wait_for_low_water(fd, length, flags, call)) return fail(error);
  return libc_result(receive(fd, flags, call, [&]() noexcept {
    return WEFT_TRY(recvfrom, fd, buffer, length, flags | MSG_DONTWAIT, address, address_length);
  }));
}

}  // namespace

long receive_message(int fd, msghdr& message, int flags, const char* call) noexcept {
  long result;
  if ((flags & MSG_WAITALL) && !(flags & kNeverWaits)) {
    result = receive_until(fd, message, flags, BufferCursor::size_of(message), call);
  } else {
    if (receive_low_water(fd) > 1) [[unlikely]]
      if (const int error = wait_for_low_water(fd, BufferCursor::size_of(message), flags, call))
        return -error;
    result = receive(fd, flags, call,
                     [&]() noexcept { return WEFT_TRY(recvmsg, fd, &message, flags | MSG_DONTWAIT); });
  }
  if (result >= 0 && message.msg_controllen > 0) note_received_sockets(message);
  return result;
}

ssize_t routed::recv(int fd, void* buffer, size_t length, int flags) noexcept {
  WEFT_STRAIGHT(recv, fd, buffer, length, flags)
  return receive_buffer(fd, buffer, length, flags, nullptr, nullptr, "recv");
}

ssize_t routed::recvfrom(int fd, void* buffer, size_t length, int flags, sockaddr* address,
                         socklen_t* address_length) noexcept {
  WEFT_STRAIGHT(recvfrom, fd, buffer, length, flags, address, address_length)
  return receive_buffer(fd, buffer, length, flags, address, address_length, "recvfrom");
}

ssize_t routed::__recv_chk(int fd, void* buffer, size_t length, size_t buffer_size, int flags) noexcept {
  if (length > buffer_size) return real::__recv_chk(fd, buffer, length, buffer_size, flags);  // aborts
  WEFT_STRAIGHT(recv, fd, buffer, length, flags)
  return receive_buffer(fd, buffer, length, flags, nullptr, nullptr, "recv");
}

ssize_t routed::__recvfrom_chk(int fd, void* buffer, size_t length, size_t buffer_size, int flags,
                               sockaddr* address, socklen_t* address_length) noexcept {
  if (length > buffer_size)  // aborts
    return real::__recvfrom_chk(fd, buffer, length, buffer_size, flags, address, address_length);
  WEFT_STRAIGHT(recvfrom, fd, buffer, length, flags, address, address_length)
  return receive_buffer(fd, buffer, length, flags, address, address_length, "recvfrom");
}

ssize_t routed::recvmsg(int fd, msghdr* message, int flags) noexcept {
  WEFT_STRAIGHT(recvmsg, fd, message, flags)
  return libc_result(receive_message(fd, *message, flags, "recvmsg"));
}

int routed::recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) noexcept {
  WEFT_STRAIGHT(recvmmsg, fd, messages, count, flags, timeout)
  if (timeout && (!valid(*timeout) || timeout->tv_sec < 0)) return fail(EINVAL);
  // As in the kernel, the time is looked at only after a message: it does not end a wait.
  const Nanos deadline = timeout ? later(monotonic_now(), to_nanos(*timeout)) : kNever;
  IoWait wait(fd, POLLIN, "recvmmsg");
  unsigned received = 0;
  long result;
  for (;;) {
    result = WEFT_TRY(recvmmsg, fd, messages + received, count - received,
                      (flags & ~MSG_WAITFORONE) | MSG_DONTWAIT, nullptr);
    if (result > 0) {
      received += static_cast<unsigned>(result);
      wait.progressed();
      if (received == count || (flags & (MSG_WAITFORONE | MSG_DONTWAIT)) || monotonic_now() >= deadline ||
          (messages[received - 1].msg_hdr.msg_flags & MSG_OOB))
        break;
    } else if (result != -EAGAIN || (flags & kNeverWaits)) {
      break;
    }
    if (const int error = wait.next()) {
      result = -error;
      break;
    }
    if (received > 0 && (wait.seen() & POLLERR)) break;  // the error is for the next call
  }
  if (timeout && received > 0) {
    const Nanos left = deadline - monotonic_now();
    *timeout = left > 0 ? timespec{left / kSecond, left % kSecond} : timespec{0, 0};
  }
  return static_cast<int>(received > 0 ? static_cast<ssize_t>(received) : libc_result(result));
}

}  // namespace weft::engine::interpose
