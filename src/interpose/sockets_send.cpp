// Sending. One attempt that does not block, then waits until all is sent, as a blocking call on a stream
// does.
#include <limits.h>
#include <poll.h>

#include <algorithm>

#include "interpose/descriptor_state.hpp"
#include "interpose/sockets_transfer.hpp"
#include "interpose/sockets_vector.hpp"
#include "interpose/sockets_wait.hpp"

namespace weft::engine::interpose {

namespace {

// With MSG_FASTOPEN the first send connects; where it may not block it says EINPROGRESS and has sent nothing.
bool would_block(long result) noexcept {
  return result == -EAGAIN || result == -EINPROGRESS;
}

// Whether the first attempt is all there is to do for a message of `length` bytes.
bool is_final(long result, size_t length, int flags) noexcept {
  if (result < 0) return (flags & MSG_DONTWAIT) || !would_block(result);
  return static_cast<size_t>(result) >= length || (flags & MSG_DONTWAIT);
}

msghdr message_of(iovec& vector, const sockaddr* address, socklen_t address_length) noexcept {
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_name = const_cast<sockaddr*>(address);
  message.msg_namelen = address_length;
  return message;
}

}  // namespace

long finish_send(int fd, const msghdr& message, int flags, long result, const char* call) noexcept {
  IoWait wait(fd, POLLOUT, call);
  BufferCursor cursor(message);
  msghdr piece = message;
  const size_t length = BufferCursor::size_of(message);
  size_t sent = 0;
  for (;;) {
    if (result > 0) {
      // Of what goes with the message, address and control data were for the first piece.
      piece.msg_name = piece.msg_control = nullptr;
      piece.msg_namelen = 0;
      piece.msg_controllen = 0;
      sent += static_cast<size_t>(result);
      cursor.advance(static_cast<size_t>(result));
      wait.progressed();
      if (sent >= length) return static_cast<long>(sent);
      // Each call with this flag is answered by a notification: a second one would be one too many.
      if (flags & MSG_ZEROCOPY) return static_cast<long>(sent);
    } else if (!would_block(result)) {
      return sent > 0 ? static_cast<long>(sent) : result;
    }
    if (result == -EINPROGRESS) {
      flags &= ~MSG_FASTOPEN;
      piece.msg_name = nullptr;
      piece.msg_namelen = 0;
    }
    const int error = wait.next();
    if (error)
      return sent > 0 ? static_cast<long>(sent) : result == -EINPROGRESS && error == EAGAIN ? result : -error;
    // What was sent is the call's result; the error, and its SIGPIPE, are for the next call.
    if (sent > 0 && (wait.seen() & (POLLERR | POLLHUP))) return static_cast<long>(sent);
    cursor.put_into(piece);
    result = WEFT_TRY(sendmsg, fd, &piece, flags | MSG_DONTWAIT | (sent > 0 ? MSG_NOSIGNAL : 0));
  }
}

long send_message(int fd, const msghdr& message, int flags, const char* call) noexcept {
  const long result = WEFT_TRY(sendmsg, fd, &message, flags | MSG_DONTWAIT);
  if (is_final(result, result < 0 ? 0 : BufferCursor::size_of(message), flags)) [[likely]]
    return result;
  return finish_send(fd, message, flags, result, call);
}

ssize_t routed::send(int fd, const void* buffer, size_t length, int flags) noexcept {
  WEFT_STRAIGHT(send, fd, buffer, length, flags)
  const long result = WEFT_TRY(sendto, fd, buffer, length, flags | MSG_DONTWAIT, nullptr, 0);
  if (is_final(result, length, flags)) [[likely]]
    return libc_result(result);
  iovec vector{const_cast<void*>(buffer), length};
  return libc_result(finish_send(fd, message_of(vector, nullptr, 0), flags, result, "send"));
}

ssize_t routed::sendto(int fd, const void* buffer, size_t length, int flags, const sockaddr* address,
                       socklen_t address_length) noexcept {
  WEFT_STRAIGHT(sendto, fd, buffer, length, flags, address, address_length)
  const long result = WEFT_TRY(sendto, fd, buffer, length, flags | MSG_DONTWAIT, address, address_length);
  if (is_final(result, length, flags)) [[likely]]
    return libc_result(result);
  iovec vector{const_cast<void*>(buffer), length};
  return libc_result(finish_send(fd, message_of(vector, address, address_length), flags, result, "sendto"));
}

ssize_t routed::sendmsg(int fd, const msghdr* message, int flags) noexcept {
  WEFT_STRAIGHT(sendmsg, fd, message, flags)
  return libc_result(send_message(fd, *message, flags, "sendmsg"));
}

int routed::sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) noexcept {
  WEFT_STRAIGHT(sendmmsg, fd, messages, count, flags)
  count = std::min<unsigned>(count, UIO_MAXIOV);
  unsigned sent = 0;
  do {
    // The kernel stops at the first message that it cannot send, or cannot send whole.
    const long result = WEFT_TRY(sendmmsg, fd, messages + sent, count - sent, flags | MSG_DONTWAIT);
    if (flags & MSG_DONTWAIT) return static_cast<int>(libc_result(result));
    if (result < 0 && !would_block(result))
      return static_cast<int>(sent > 0 ? static_cast<ssize_t>(sent) : libc_result(result));
    if (count == 0) return 0;
    if (result > 0) {
      sent += static_cast<unsigned>(result);
      mmsghdr& last = messages[sent - 1];
      if (last.msg_len >= BufferCursor::size_of(last.msg_hdr)) continue;
      last.msg_len = static_cast<unsigned>(finish_send(fd, last.msg_hdr, flags, last.msg_len, "sendmmsg"));
      if (last.msg_len < BufferCursor::size_of(last.msg_hdr)) return static_cast<int>(sent);
      continue;
    }
    const long one = finish_send(fd, messages[sent].msg_hdr, flags, result, "sendmmsg");
    if (one < 0) return static_cast<int>(sent > 0 ? static_cast<ssize_t>(sent) : libc_result(one));
    messages[sent++].msg_len = static_cast<unsigned>(one);
    if (static_cast<size_t>(one) < BufferCursor::size_of(messages[sent - 1].msg_hdr))
      return static_cast<int>(sent);
  } while (sent < count);
  return static_cast<int>(sent);
}

}  // namespace weft::engine::interpose
