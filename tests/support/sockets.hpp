// Sockets, files and signals for tests, released at the end of their scope.
#pragma once

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <vector>

#include "support/native_and_fiber.hpp"

namespace weft::engine::test {

struct Fd {
  int fd;
  explicit Fd(int descriptor) : fd(descriptor) {}
  Fd(Fd&& other) noexcept : fd(std::exchange(other.fd, -1)) {}
  ~Fd() {
    if (fd < 0) return;
    Poller::closing(fd);
    ::close(fd);
  }
};

inline sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

/// A bound socket, listening if it is a stream. AF_UNIX: at an abstract address that the kernel chooses.
struct Listener : Fd {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  explicit Listener(int family, int type = SOCK_STREAM, int backlog = 1024) : Fd(::socket(family, type, 0)) {
    storage.ss_family = static_cast<sa_family_t>(family);
    socklen_t size = sizeof(sa_family_t);
    if (family == AF_INET) {
      reinterpret_cast<sockaddr_in&>(storage) = loopback(0);
      size = sizeof(sockaddr_in);
    } else if (family == AF_INET6) {
      reinterpret_cast<sockaddr_in6&>(storage).sin6_addr = in6addr_loopback;
      size = sizeof(sockaddr_in6);
    }
    EXPECT_EQ(::bind(fd, address(), size), 0);
    EXPECT_EQ(::getsockname(fd, address(), &length), 0);
    if (type == SOCK_STREAM) {
      EXPECT_EQ(::listen(fd, backlog), 0);
    }
  }
  sockaddr* address() { return reinterpret_cast<sockaddr*>(&storage); }
};

/// A port that nobody listens on.
inline uint16_t free_port() {
  Listener listener(AF_INET);
  return ntohs(reinterpret_cast<sockaddr_in&>(listener.storage).sin_port);
}

/// Two ends of a connection, AF_INET or AF_UNIX.
inline FdPair connected(int family) {
  if (family == AF_UNIX) return socket_pair();
  Listener listener(family);
  FdPair pair;
  pair.first = ::socket(family, SOCK_STREAM, 0);
  EXPECT_EQ(::connect(pair.first, listener.address(), listener.length), 0);
  pair.second = ::accept(listener.fd, nullptr, nullptr);
  EXPECT_GE(pair.second, 0);
  return pair;
}

/// Closes a connection so that the other end sees ECONNRESET.
inline void reset(int& fd) {
  const linger at_once{1, 0};
  EXPECT_EQ(::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
  Poller::closing(fd);
  EXPECT_EQ(::close(fd), 0);
  fd = -1;
}

/// Counts a signal instead of suffering it. One at a time.
class SignalCounter {
 public:
  explicit SignalCounter(int number) : number_(number) {
    count_ = 0;
    struct sigaction action {};
    action.sa_handler = [](int) { ++count_; };
    sigaction(number, &action, &former_);
  }
  ~SignalCounter() { sigaction(number_, &former_, nullptr); }
  SignalCounter(const SignalCounter&) = delete;
  SignalCounter& operator=(const SignalCounter&) = delete;
  int count() const { return count_; }

 private:
  static inline std::atomic<int> count_{0};
  int number_;
  struct sigaction former_ {};
};

class Stopwatch {
 public:
  bool at_least(int milliseconds) const { return monotonic_now() - start_ >= milliseconds * kMillisecond; }

 private:
  Nanos start_ = monotonic_now();
};

/// A file without a name.
struct TemporaryFile : Fd {
  explicit TemporaryFile(size_t size) : Fd(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)) {
    std::vector<char> data(size, 'f');
    EXPECT_EQ(::write(fd, data.data(), size), static_cast<ssize_t>(size));
  }
};

inline ssize_t send_descriptor(const Calls& call, int socket, std::string text, int descriptor) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec vector{text.data(), text.size()};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  *header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  return call.sendmsg(socket, &message, 0);
}

inline ssize_t receive_descriptor(const Calls& call, int socket, size_t length, int flags, int& descriptor) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  std::vector<char> buffer(length);
  iovec vector{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t result = call.recvmsg(socket, &message, flags);
  descriptor = -1;
  if (cmsghdr* header = CMSG_FIRSTHDR(&message); result >= 0 && header)
    memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
  return result;
}

/// Reads `length` bytes, or to the end. Returns how many there were.
inline size_t drain(const Calls& call, int fd, size_t length) {
  std::vector<char> buffer(65536);
  size_t total = 0;
  while (total < length) {
    const ssize_t got = call.recv(fd, buffer.data(), std::min(buffer.size(), length - total), 0);
    if (got <= 0) break;
    total += static_cast<size_t>(got);
  }
  return total;
}

/// Messages for sendmmsg and recvmmsg, with a buffer each.
class Messages {
 public:
  explicit Messages(size_t count, size_t length = 16)
      : data_(count * length), vectors_(count), headers_(count) {
    for (size_t i = 0; i < count; ++i) {
      vectors_[i] = {data_.data() + i * length, length};
      headers_[i].msg_hdr.msg_iov = &vectors_[i];
      headers_[i].msg_hdr.msg_iovlen = 1;
    }
  }
  mmsghdr* all() { return headers_.data(); }

 private:
  std::vector<char> data_;
  std::vector<iovec> vectors_;
  std::vector<mmsghdr> headers_;
};

}  // namespace weft::engine::test
