#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "runtime/dump.hpp"
#include "runtime/dump_address.hpp"
#include "runtime/settings_environment.hpp"

namespace weft::dump {

namespace {

enum class Loaded { kYes, kNo, kUnknown };

// Whether the preload library is in the process.
Loaded is_loaded(pid_t pid) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  if (!maps) return Loaded::kUnknown;
  for (std::string line; std::getline(maps, line);)
    if (line.ends_with(environment::kPreloadName)) return Loaded::kYes;
  return maps.bad() ? Loaded::kUnknown : Loaded::kNo;
}

std::string why_no_answer(pid_t pid) {
  const std::string process = "process " + std::to_string(pid);
  if (kill(pid, 0) != 0 && errno == ESRCH) return "there is no " + process;
  switch (is_loaded(pid)) {
    case Loaded::kNo:
      return process + " does not run under Weft: start it with weft run";
    case Loaded::kUnknown:
      return process + " does not answer, and may not be looked into: ask as its user, or as root";
    case Loaded::kYes:
      break;
  }
  return process + " runs under Weft, but has not started a fiber: it has created no thread yet";
}

struct Socket {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ~Socket() { close(fd); }
};

}  // namespace

std::string fetch(pid_t pid, int fd) {
  const Socket connection;
  sockaddr_un address;
  const socklen_t length = socket_address(pid, address);
  if (connect(connection.fd, reinterpret_cast<sockaddr*>(&address), length) != 0) return why_no_answer(pid);
  // The name is free for all to take: what answers must be that process.
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(connection.fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.pid != pid)
    return "another process (" + std::to_string(peer.pid) + ") answers in the name of " + std::to_string(pid);

  char buffer[65536];
  bool answered = false;
  for (;;) {
    const ssize_t count = read(connection.fd, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::string("the answer breaks off: ") + strerror(errno);
    if (count == 0) break;
    answered = true;
    for (ssize_t done = 0; done < count;) {
      const ssize_t written = write(fd, buffer + done, static_cast<size_t>(count - done));
      if (written < 0 && errno != EINTR) return std::string("cannot write: ") + strerror(errno);
      if (written > 0) done += written;
    }
  }
  return answered ? ""
                  : "process " + std::to_string(pid) + " does not answer you: ask as its user, or as root";
}

}  // namespace weft::dump
