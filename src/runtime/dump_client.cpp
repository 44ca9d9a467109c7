#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "interpose/elf/program.hpp"
#include "runtime/dump.hpp"
#include "runtime/dump_address.hpp"
#include "runtime/python_version.hpp"
#include "runtime/settings_environment.hpp"

namespace weft::engine::dump {

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

// The settings that the process was started with. Its environment at the start is kept, whatever it changes.
Settings settings_of(pid_t pid) {
  Settings settings;
  std::ifstream environment("/proc/" + std::to_string(pid) + "/environ");
  for (std::string variable; std::getline(environment, variable, '\0');) {
    const size_t equals = variable.find('=');
    if (equals == variable.npos) continue;
    for (const SettingForm& form : setting_forms())
      if (variable.compare(0, equals, form.variable) == 0) form.parse(variable.substr(equals + 1), settings);
  }
  return settings;
}

// The file that holds the interpreter of the process: a libpython, or its executable; empty if there is none.
std::string interpreter_of(pid_t pid) {
  const std::string folder = "/proc/" + std::to_string(pid);
  std::ifstream maps(folder + "/maps");
  for (std::string line; std::getline(maps, line);)
    if (const size_t slash = line.rfind("/libpython3."); slash != line.npos) return line.substr(slash);
  std::error_code error;
  const bool python = interpose::elf::inspect_program(folder + "/exe").python;
  return python ? std::filesystem::read_symlink(folder + "/exe", error).string() : std::string();
}

std::string why_no_fiber(pid_t pid) {
  const Settings settings = settings_of(pid);
  if (!settings.routing) return "routing is off (--routing=off), so its threads are OS threads";
  if (settings.threads == Threads::kNone) return "with --threads=none its threads are OS threads";
  const std::string interpreter = interpreter_of(pid);
  if (interpreter.empty()) {
    if (settings.threads == Threads::kPython)
      return "it is no Python interpreter, so its threads are OS threads, unless --threads=all";
  } else if (const std::string version = python_version_in(interpreter);
             !version.empty() && !python_is_supported(version)) {
    return "Python " + version + " " + std::string(kPythonUnsupported);
  }
  return "it has created no thread yet";
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
  return process + " runs under Weft, but has not started a fiber: " + why_no_fiber(pid);
}

// A dump of 20,000 fibers takes well below a second.
constexpr timeval kPatience{5, 0};

// The letter that the kernel gives for it, as in ps; '?' if there is none.
char state_of(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(status, line);
  const size_t behind_name = line.rfind(") ");
  return behind_name == line.npos || behind_name + 2 >= line.size() ? '?' : line[behind_name + 2];
}

bool has_ended(pid_t pid) {
  return std::string_view("ZX?").find(state_of(pid)) != std::string_view::npos;
}

std::string why_silent(pid_t pid) {
  const std::string number = std::to_string(pid);
  const char state = state_of(pid);
  std::string why =
      "process " + number + " does not answer within " + std::to_string(kPatience.tv_sec) + " s: ";
  if (has_ended(pid)) return why + "it has ended";
  switch (state) {
    case 'T':
      return why + "it is stopped (state T); kill -CONT " + number + " lets it go on";
    case 't':
      return why + "a debugger has stopped it (state t): have that let it go on, or ask it for the stacks";
    default:
      return why + "it is in state " + state +
             ", but its monitor thread does not come to it: try again, or look with gdb -p " + number;
  }
}

struct Socket {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ~Socket() { close(fd); }
};

}  // namespace

std::string fetch(pid_t pid, int fd, Form form) {
  const Socket connection;
  sockaddr_un address;
  const socklen_t length = socket_address(pid, address);
  // Connecting waits, too, once enough others wait for the same process.
  setsockopt(connection.fd, SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  setsockopt(connection.fd, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  if (connect(connection.fd, reinterpret_cast<sockaddr*>(&address), length) != 0)
    return errno == EAGAIN ? why_silent(pid) : why_no_answer(pid);
  // The name is free for all to take: what answers must be that process.
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(connection.fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.pid != pid)
    return "another process (" + std::to_string(peer.pid) + ") answers in the name of " + std::to_string(pid);

  // The process may have closed the connection already; what it says then is read below.
  const std::string_view request = form == Form::kAll ? kRequestAll : kRequestGrouped;
  send(connection.fd, request.data(), request.size(), MSG_NOSIGNAL);

  char buffer[65536];
  bool answered = false;
  for (;;) {
    const ssize_t count = read(connection.fd, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return why_silent(pid);
    if (count < 0) return std::string("the answer breaks off: ") + strerror(errno);
    if (count == 0) break;
    answered = true;
    for (ssize_t done = 0; done < count;) {
      const ssize_t written = write(fd, buffer + done, static_cast<size_t>(count - done));
      if (written < 0 && errno != EINTR) return std::string("cannot write: ") + strerror(errno);
      if (written > 0) done += written;
    }
  }
  if (answered) return "";
  poll(nullptr, 0, 100);  // one that ends closes its connections first
  const std::string process = "process " + std::to_string(pid);
  return has_ended(pid) ? process + " has ended"
                        : process + " does not answer you: ask as its user, or as root";
}

}  // namespace weft::engine::dump
