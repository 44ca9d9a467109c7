// Making sockets: what the headers of weft::net call. Promises nothing to programs.
#pragma once

#include <string>

#include "weft/detail/descriptor.hpp"
#include "weft/net/address.hpp"

namespace weft::net::detail {

struct ConnectRequest {
  const Address* local;  ///< null: any
  Nanos stagger;         ///< between the starts of attempts
  bool no_delay;
};

/// Connects to one of `addresses`, of which it tries kMaxAddresses at most. The value is a non-blocking
/// descriptor, or the negated errno that tells most. `*connected`: the index of the one that answered.
WEFT_API IoResult connect_stream(const Address* addresses, size_t count, const ConnectRequest& request,
                                 Nanos deadline, size_t* connected) noexcept;
inline constexpr size_t kMaxAddresses = 64;

struct ListenRequest {
  int backlog;
  bool reuse_address;
  bool reuse_port;
  bool no_delay;    ///< of the connections, which inherit it
  int v6_only;      ///< -1: as the system has it
  int permissions;  ///< of a Unix socket's path; -1: as the umask has it
};
/// What a path stood for when it was bound.
struct FileIdentity {
  uint64_t device = 0, inode = 0;
};
/// The value is a non-blocking descriptor that listens. `*file`: of a path.
WEFT_API IoResult listen_stream(const Address& address, const ListenRequest& request,
                                FileIdentity* file) noexcept;
/// Removes the path of `address`, if it is still that file.
WEFT_API void unlink_socket(const Address& address, const FileIdentity& file) noexcept;

struct DatagramRequest {
  bool reuse_address;
  bool reuse_port;
  int v6_only;
};
/// The value is a non-blocking datagram socket, bound to `address`; of family `family` and not bound where
/// that is none.
WEFT_API IoResult open_datagram(int family, const Address& address, const DatagramRequest& request) noexcept;

/// Two connected stream sockets. Returns 0 or a negated errno.
WEFT_API int open_pair(int (&fds)[2]) noexcept;
/// Makes `fd` non-blocking, if it is a socket of `type`. Returns 0 or a negated errno.
WEFT_API int adopt_socket(int fd, int type) noexcept;

/// The descriptor that `result` has; throws what it failed by, "cannot `verb` `name`".
template <typename Name>
int opened(const IoResult& result, const char* verb, Name&& name) {
  if (result.outcome == Outcome::kReady && result.value >= 0) return static_cast<int>(result.value);
  const std::string what = std::string("cannot ") + verb + " " + name();
  return static_cast<int>(checked(result, what.c_str()));
}

/// The descriptor of the next who connects to a listener; -1 if nobody has by the deadline.
inline int accept(Descriptor& listener, Nanos deadline, const char* call, Address* peer = nullptr) {
  Address ignored;
  Address& address = peer ? *peer : ignored;
  socklen_t size = Address::kRoom;
  const IoResult result = listener.accept(address.room(), &size, deadline);
  if (result.outcome == Outcome::kTimeout) return -1;
  const int fd = static_cast<int>(checked(result, call));
  address.resize(size);
  return fd;
}

template <typename Name>
Address name_of(Name&& ask, const char* what) {
  Address address;
  socklen_t size = Address::kRoom;
  checked(ask(address.room(), &size), what);
  address.resize(size);
  return address;
}

}  // namespace weft::net::detail
