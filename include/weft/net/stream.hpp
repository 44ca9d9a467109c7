// Stream: bytes to and from a peer, over a connected socket.
#pragma once

#include <netinet/tcp.h>
#include <sys/uio.h>

#include <algorithm>
#include <span>
#include <string>

#include "weft/io.hpp"
#include "weft/net/detail.hpp"

namespace weft::net {

/// The peer has sent less than what was to be read.
class EndOfStream : public std::runtime_error {
 public:
  EndOfStream() : std::runtime_error("the peer closed the stream before all was read") {}
};

/// What all sockets of weft::net have in common. Owns a non-blocking descriptor, which its destructor closes.
/// Any number of fibers and threads may use one at the same time; but nobody else may while it is moved,
/// assigned to, released or destroyed.
class Socket {
 public:
  /// One that is closed: all that uses it fails with EBADF.
  Socket() noexcept = default;
  Socket(Socket&&) noexcept = default;
  Socket& operator=(Socket&&) noexcept = default;

  /// Ends every operation on it that is under way, on whichever fiber or thread: they fail with EBADF, as
  /// all later ones. Returns when they have left and the descriptor is closed; meanwhile others run, and the
  /// wait is not cancellable (a native thread waits a second at most; the last who leaves then closes). Any
  /// thread; nothing happens the second time.
  void close() noexcept { descriptor_.close(); }
  bool is_open() const noexcept { return descriptor_.fd() >= 0; }
  explicit operator bool() const noexcept { return is_open(); }

  /// The descriptor, for calls that this class does not have. Non-blocking; do not close it. -1 once closed.
  int native_handle() const noexcept { return descriptor_.fd(); }
  /// Gives the descriptor up, non-blocking as it is; -1 if it is closed.
  int release() noexcept { return descriptor_.release(); }

  Address local_address() const {
    return detail::name_of([this](auto... out) { return descriptor_.local_name(out...); }, "local_address");
  }

  /// Any option of setsockopt(2) that is a number.
  void set_option(int level, int name, int value) {
    detail::checked(descriptor_.set_option(level, name, &value, sizeof value), "set_option");
  }
  int option(int level, int name) const {
    int value = 0;
    socklen_t size = sizeof value;
    detail::checked(descriptor_.option(level, name, &value, &size), "option");
    return value;
  }
  /// SO_RCVBUF, SO_SNDBUF.
  void set_receive_buffer(int bytes) { set_option(SOL_SOCKET, SO_RCVBUF, bytes); }
  void set_send_buffer(int bytes) { set_option(SOL_SOCKET, SO_SNDBUF, bytes); }

 protected:
  explicit Socket(int fd) noexcept : descriptor_(fd) {}
  ~Socket() = default;

  mutable detail::Descriptor descriptor_;
};

/// Time limits for each call; 0: none. Those of calls under way stay as they were when they began.
class TimeLimits {
 public:
  TimeLimits() noexcept = default;
  TimeLimits(TimeLimits&& other) noexcept : read_(other.read_.load()), write_(other.write_.load()) {}
  TimeLimits& operator=(TimeLimits&& other) noexcept {
    read_ = other.read_.load();
    write_ = other.write_.load();
    return *this;
  }
  /// For every call that reads, as a whole: it throws Timeout when that time has passed.
  template <typename Rep, typename Period>
  void set_read_timeout(std::chrono::duration<Rep, Period> span) noexcept {
    read_.store(detail::limit_of(span), std::memory_order_relaxed);
  }
  template <typename Rep, typename Period>
  void set_write_timeout(std::chrono::duration<Rep, Period> span) noexcept {
    write_.store(detail::limit_of(span), std::memory_order_relaxed);
  }

 protected:
  ~TimeLimits() = default;
  detail::Nanos read_deadline() const noexcept {
    return detail::deadline_of(read_.load(std::memory_order_relaxed));
  }
  detail::Nanos write_deadline() const noexcept {
    return detail::deadline_of(write_.load(std::memory_order_relaxed));
  }

 private:
  std::atomic<detail::Nanos> read_{0}, write_{0};
};

/// A connected stream socket of any family.
///
/// All that reads or writes is a cancellation point, whether it needs to wait or not: it throws Cancelled,
/// or Timeout when a TimeoutScope has expired or the time limit of the call has passed. The stream can be
/// used after that as before; what had been transferred by then, and which calls tell, stands with each.
/// Other errors are std::system_error, with the errno of the system call: ECONNRESET, EPIPE (writing when
/// the peer has closed; there is no SIGPIPE), EBADF (closed here).
///
/// One may read while another writes. Two that read, or write, at the same time each get or put whole system
/// calls' worth of bytes, in no order.
class Stream : public Socket, public TimeLimits {
 public:
  Stream() noexcept = default;

  /// Takes over a connected stream socket, and makes it non-blocking. std::system_error if it is none
  /// (EPROTOTYPE, ENOTSOCK): then it stays the caller's.
  static Stream adopt(int fd) {
    detail::checked(detail::adopt_socket(fd, SOCK_STREAM), "Stream::adopt");
    return Stream(fd);
  }

  /// Waits until there is something, and reads at most buffer.size() of it. 0: the peer has closed its side,
  /// or the buffer is empty. Nothing is lost when it throws.
  size_t read_some(MutableBytes buffer) {
    if (buffer.size() == 0) return 0;
    return size_of(descriptor_.receive(buffer.data(), buffer.size(), 0, read_deadline(), "read_some"),
                   "read");
  }
  /// Into several buffers, one after the other: 1,024 at most.
  size_t read_some(std::span<const iovec> buffers) {
    msghdr message = message_of(buffers);
    return size_of(descriptor_.receive_message(message, 0, read_deadline(), "read_some"), "read");
  }

  /// Fills the buffer. Throws EndOfStream if the peer closes its side before that. `*done`, if given, is how
  /// much was read, also when it throws.
  void read_exactly(MutableBytes buffer, size_t* done = nullptr) {
    const detail::Nanos deadline = read_deadline();
    until_all(buffer, done, [&](MutableBytes rest) {
      const size_t size =
          size_of(descriptor_.receive(rest.data(), rest.size(), 0, deadline, "read_exactly"), "read");
      if (size == 0) throw EndOfStream();
      return size;
    });
  }

  /// Appends to `text` until that ends with `delimiter`, and reads nothing beyond. The delimiter may begin in
  /// what `text` held before. False: the peer closed its side first, or `text` would get longer than `limit`
  /// without it; text.size() tells which. When it throws, `text` has what was read: to go on, call it again.
  /// Two system calls for each piece that arrives: for many short lines read_some() into a buffer is faster.
  /// REQUIRES: the delimiter is not empty.
  bool read_until(std::string& text, std::string_view delimiter, size_t limit = 64 * 1024) {
    const detail::Nanos deadline = read_deadline();
    char buffer[2048];
    while (text.size() < limit) {
      const size_t room = std::min(sizeof buffer, limit - text.size());
      const size_t seen =
          size_of(descriptor_.receive(buffer, room, MSG_PEEK, deadline, "read_until"), "read");
      if (seen == 0) return false;
      const size_t former = text.size();
      text.append(buffer, seen);
      const size_t overlap = std::min(former, delimiter.size() - 1);
      const size_t found = text.find(delimiter, former - overlap);
      const bool ends = found != text.npos;
      text.resize(former);
      // They are there, so this takes what was seen without a wait.
      const size_t wanted = ends ? found + delimiter.size() - former : seen;
      const size_t size = size_of(descriptor_.receive(buffer, wanted, 0, deadline, "read_until"), "read");
      text.append(buffer, size);
      if (ends && size == wanted) return true;
    }
    return false;
  }

  /// Waits until something can be written, and writes as much as the kernel takes at once. 0 only if there is
  /// nothing to write. Nothing was written when it throws.
  size_t write_some(Bytes bytes) {
    if (bytes.size() == 0) return 0;
    return size_of(descriptor_.send(bytes.data(), bytes.size(), write_deadline(), "write_some"), "write");
  }
  /// From several buffers, one after the other: 1,024 at most.
  size_t write_some(std::span<const iovec> buffers) {
    return size_of(descriptor_.send_message(message_of(buffers), write_deadline(), "write_some"), "write");
  }

  /// Writes all. `*done`, if given, is how much the kernel has taken, also when it throws: the rest was not
  /// sent.
  void write_all(Bytes bytes, size_t* done = nullptr) {
    const detail::Nanos deadline = write_deadline();
    until_all(bytes, done, [&](Bytes rest) {
      return size_of(descriptor_.send(rest.data(), rest.size(), deadline, "write_all"), "write");
    });
  }

  /// What the peer sends from now on is thrown away; readers see the end.
  void shutdown_read() { detail::checked(descriptor_.shutdown(SHUT_RD), "shutdown_read"); }
  /// The peer sees the end once it has read what was written; reading goes on.
  void shutdown_write() { detail::checked(descriptor_.shutdown(SHUT_WR), "shutdown_write"); }

  Address peer_address() const {
    return detail::name_of([this](auto... out) { return descriptor_.peer_name(out...); }, "peer_address");
  }

  /// TCP_NODELAY: small writes are sent at once. For TCP; EOPNOTSUPP elsewhere.
  void set_no_delay(bool on) { set_option(IPPROTO_TCP, TCP_NODELAY, on); }
  /// Has the kernel ask now and then whether the peer is still there.
  void set_keep_alive(bool on) { set_option(SOL_SOCKET, SO_KEEPALIVE, on); }
  /// The same: first after `idle` without traffic, then every `interval`, `probes` times, in whole seconds.
  void set_keep_alive(std::chrono::seconds idle, std::chrono::seconds interval, int probes) {
    set_option(IPPROTO_TCP, TCP_KEEPIDLE, static_cast<int>(idle.count()));
    set_option(IPPROTO_TCP, TCP_KEEPINTVL, static_cast<int>(interval.count()));
    set_option(IPPROTO_TCP, TCP_KEEPCNT, probes);
    set_keep_alive(true);
  }

 protected:
  explicit Stream(int fd) noexcept : Socket(fd) {}

  template <typename B, typename Some>
  static void until_all(B bytes, size_t* done, Some&& some) {
    size_t total = 0;
    size_t& count = done ? *done : total;
    for (count = 0; count < bytes.size();) count += some(bytes.from(count));
  }

  static size_t size_of(const detail::IoResult& result, const char* what) {
    return static_cast<size_t>(detail::checked(result, what));
  }
  static msghdr message_of(std::span<const iovec> buffers) noexcept {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(buffers.data());
    message.msg_iovlen = buffers.size();
    return message;
  }
};

}  // namespace weft::net
