// sock_diag(7): a request for one socket, by its own address, is answered with the listener there that the
// kernel would give a connection to, those of 0.0.0.0 and [::] included, or with ENOENT.
#include "process/listeners.hpp"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "fiber/sys.hpp"

namespace weft::process {

namespace {

namespace sys = engine::sys;

class Socket {
 public:
  Socket(int family, int type, int protocol) noexcept
      : fd_(static_cast<int>(sys::call(SYS_socket, family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol))) {}
  ~Socket() {
    if (fd_ >= 0) sys::call(SYS_close, fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const noexcept { return fd_; }

 private:
  int fd_;
};

enum class Answer { kListens, kNobody, kUnknown };

Answer ask(const void* address, uint16_t port, int family) noexcept {
  struct {
    nlmsghdr header;
    inet_diag_req_v2 what;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.what.sdiag_family = static_cast<uint8_t>(family);
  request.what.sdiag_protocol = IPPROTO_TCP;
  request.what.idiag_states = ~0u;
  request.what.id.idiag_sport = htons(port);
  request.what.id.idiag_cookie[0] = request.what.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  memcpy(request.what.id.idiag_src, address, family == AF_INET ? sizeof(in_addr) : sizeof(in6_addr));

  const Socket netlink(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
  if (netlink.fd() < 0) return Answer::kUnknown;
  if (sys::call(SYS_sendto, netlink.fd(), &request, sizeof request, 0, nullptr, 0) < 0)
    return Answer::kUnknown;
  alignas(nlmsghdr) char reply[1024];
  const long size =
      sys::call(SYS_recvfrom, netlink.fd(), reply, sizeof reply, MSG_DONTWAIT, nullptr, nullptr);
  if (size < static_cast<long>(sizeof(nlmsghdr))) return Answer::kUnknown;
  nlmsghdr header;
  memcpy(&header, reply, sizeof header);
  if (header.nlmsg_type == SOCK_DIAG_BY_FAMILY) return Answer::kListens;
  int error = 0;
  if (header.nlmsg_type != NLMSG_ERROR || size < static_cast<long>(NLMSG_HDRLEN + sizeof error))
    return Answer::kUnknown;
  memcpy(&error, reply + NLMSG_HDRLEN, sizeof error);
  return error == -ENOENT ? Answer::kNobody : Answer::kUnknown;
}

// A kernel that lacks the module for TCP says ENOENT, too. So it must have found a listener of our own once.
bool kernel_tells() noexcept {
  enum : uint8_t { kUntried, kYes, kNo };
  static std::atomic<uint8_t> state{kUntried};
  if (const uint8_t known = state.load(std::memory_order_relaxed)) return known == kYes;
  const Socket listener(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (listener.fd() < 0 || sys::call(SYS_bind, listener.fd(), &address, sizeof address) < 0 ||
      sys::call(SYS_listen, listener.fd(), 1) < 0 ||
      sys::call(SYS_getsockname, listener.fd(), &address, &size) < 0)
    return false;  // of no descriptors left, say: to be tried again
  const Answer answer = ask(&address.sin_addr, ntohs(address.sin_port), AF_INET);
  if (answer != Answer::kUnknown)
    state.store(answer == Answer::kListens ? kYes : kNo, std::memory_order_relaxed);
  return answer == Answer::kListens;
}

}  // namespace

bool nobody_listens(const char* host, uint16_t port) noexcept {
  if (port == 0) return false;
  const bool both = strcmp(host, "localhost") == 0;
  in_addr four{htonl(INADDR_LOOPBACK)};
  in6_addr six = IN6ADDR_LOOPBACK_INIT;
  const bool is_four = both || (inet_pton(AF_INET, host, &four) == 1 && ntohl(four.s_addr) >> 24 == 127);
  const bool is_six =
      both || (!is_four && inet_pton(AF_INET6, host, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six));
  if ((!is_four && !is_six) || !kernel_tells()) return false;
  return (!is_four || ask(&four, port, AF_INET) == Answer::kNobody) &&
         (!is_six || ask(&six, port, AF_INET6) == Answer::kNobody);
}

}  // namespace weft::process
