#include "process/launch.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/memfd.h>
#include <spawn.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "fiber/sys.hpp"
#include "process/protocol.hpp"

namespace weft::process {

using weft::detail::ChildFailure;
using weft::detail::ChildRequest;
using weft::detail::ChildStage;
namespace sys = engine::sys;

namespace {

// Closes what it still holds.
class Descriptors {
 public:
  Descriptors() = default;
  ~Descriptors() {
    for (const int fd : held_) sys::call(SYS_close, fd);
  }
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;
  /// `fd`, or -1 with errno set.
  int hold(long fd) {
    if (fd < 0) {
      errno = static_cast<int>(-fd);
      return -1;
    }
    held_.push_back(static_cast<int>(fd));
    return static_cast<int>(fd);
  }
  void give_up(int fd) { std::erase(held_, fd); }

 private:
  std::vector<int> held_;
};

// The Python package's, of which `folder` has the program; whichever Python it was installed for.
std::string keeper_of_package(const std::string& folder) {
  std::string pattern;
  for (const char c : folder) {
    if (strchr("*?[\\", c)) pattern += '\\';
    pattern += c;
  }
  pattern += "/../lib/python3*/*-packages/weft/lib/weft-keeper";
  glob_t found{};
  std::string file;
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0 && access(found.gl_pathv[0], X_OK) == 0)
    file = found.gl_pathv[0];
  globfree(&found);
  return file;
}

std::string find_keeper() {
  if (const char* given = getenv("WEFT_KEEPER"); given && *given) return given;
  Dl_info info{};
  char own[PATH_MAX];
  if (!dladdr(reinterpret_cast<void*>(&launch), &info) || !info.dli_fname) return {};
  // Of the program itself the name is that by which it was called, which the path was searched for.
  const char* const file_of_us = strchr(info.dli_fname, '/') ? info.dli_fname : "/proc/self/exe";
  if (!realpath(file_of_us, own)) return {};
  // A library as it is installed, or in its build tree; a program that has it linked in, likewise.
  const std::string folder(own, strrchr(own, '/'));
  for (const char* place :
       {"/weft-keeper", "/weft/weft-keeper", "/../lib/weft/weft-keeper", "/../keeper/weft-keeper",
        "/../../keeper/weft-keeper", "/../../../keeper/weft-keeper"})
    if (const std::string file = folder + place; access(file.c_str(), X_OK) == 0) return file;
  if (std::string file = keeper_of_package(folder); !file.empty()) return file;
  return access(WEFT_KEEPER_INSTALLED, X_OK) == 0 ? WEFT_KEEPER_INSTALLED : "";
}

void add_text(std::string& text, const char* more) {
  text.append(more, strlen(more) + 1);
}

// The order, in memory of its own. Throws std::bad_alloc; -1 with errno set.
int write_order(const ChildRequest& request, Descriptors& held) {
  auto order = std::make_unique<Order>();
  order->parent = static_cast<pid_t>(sys::call(SYS_getpid));
  order->mask = request.mask;
  order->user = request.user;
  order->group = request.group;
  order->nice = request.nice;
  order->keep_ignored = request.keep_ignored_signals;
  order->signal_mask = request.blocked_signals;
  order->passed = static_cast<uint32_t>(request.passed_count);
  for (size_t i = 0; i < request.passed_count; ++i)
    order->targets[i] = request.targets ? request.targets[i] : request.passed[i];
  order->limits = static_cast<uint32_t>(request.limit_count);
  for (size_t i = 0; i < request.limit_count; ++i)
    order->limit[i] = {request.limits[i].resource, request.limits[i].soft, request.limits[i].hard};
  if (request.groups) {
    order->groups = static_cast<int32_t>(request.group_count);
    for (size_t i = 0; i < request.group_count; ++i) order->group_list[i] = request.groups[i];
  }
  std::string texts;
  add_text(texts, request.file);
  add_text(texts, request.folder ? request.folder : "");
  for (const char* const* each = request.arguments; *each; ++each, ++order->arguments) add_text(texts, *each);
  for (const char* const* each = request.environment ? request.environment : environ; each && *each;
       ++each, ++order->variables)
    add_text(texts, *each);
  texts.insert(0, reinterpret_cast<const char*>(order.get()), sizeof(Order));
  const int fd = held.hold(sys::call(SYS_memfd_create, "weft-order", MFD_CLOEXEC));
  for (size_t written = 0; fd >= 0 && written < texts.size();) {
    const long size = sys::call(SYS_write, fd, texts.data() + written, texts.size() - written);
    if (size < 0 && size != -EINTR) {
      errno = static_cast<int>(-size);
      return -1;
    }
    if (size > 0) written += static_cast<size_t>(size);
  }
  return fd;
}

struct Streams {
  int theirs[3] = {-1, -1, -1};  // for the command; not yet moved out of the way
  int ours[3] = {-1, -1, -1};
};

bool open_streams(const ChildRequest& request, Streams& streams, Descriptors& held) {
  for (int i = 0; i < 3; ++i) {
    switch (const int to = request.streams[i]) {
      case weft::detail::kToPipe: {
        int ends[2];
        if (const long made = sys::call(SYS_pipe2, ends, O_CLOEXEC); made < 0) return held.hold(made) >= 0;
        const int reads = held.hold(ends[0]), writes = held.hold(ends[1]);
        streams.theirs[i] = i == 0 ? reads : writes;
        streams.ours[i] = i == 0 ? writes : reads;
        sys::call(SYS_fcntl, streams.ours[i], F_SETFL, O_NONBLOCK);
        break;
      }
      case weft::detail::kToNull:
        streams.theirs[i] =
            held.hold(sys::call(SYS_openat, AT_FDCWD, "/dev/null", (i ? O_WRONLY : O_RDONLY) | O_CLOEXEC, 0));
        break;
      case weft::detail::kToOutput:
        streams.theirs[i] = streams.theirs[1];
        break;
      default:
        streams.theirs[i] = to == weft::detail::kToCaller ? i : to;
    }
    if (streams.theirs[i] < 0) return false;
  }
  return true;
}

// What posix_spawn() is to do, freed at the end.
struct Actions {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  explicit Actions(bool keep_ignored) {
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    sigset_t all;
    sigfillset(&all);
    // The keeper has no handlers; blocked it stays until it is ready for SIGCHLD.
    posix_spawnattr_setsigmask(&attributes, &all);
    if (keep_ignored) {
      sigdelset(&all, SIGPIPE);
      sigdelset(&all, SIGXFSZ);
    }
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
  }
  ~Actions() {
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
  }
  Actions(const Actions&) = delete;
  Actions& operator=(const Actions&) = delete;
};

int start_keeper(const ChildRequest& request, Launched& launched, ChildFailure& failure) {
  auto failed = [&](ChildStage stage, int error) {
    failure = {error, stage};
    return error;
  };
  if (request.passed_count > kMaxPassed || request.limit_count > kMaxLimits ||
      request.group_count > kMaxGroups)
    return failed(ChildStage::kDescriptors, E2BIG);
  const char* const keeper = keeper_file();
  if (!*keeper) return failed(ChildStage::kKeeper, ENOENT);

  Descriptors held;
  Streams streams;
  if (!open_streams(request, streams, held)) return failed(ChildStage::kDescriptors, errno);
  int control[2];
  if (const long error =
          sys::call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, control);
      error < 0)
    return failed(ChildStage::kDescriptors, static_cast<int>(-error));
  const int ours = held.hold(control[0]), theirs = held.hold(control[1]);
  const int order = write_order(request, held);
  if (order < 0) return failed(ChildStage::kOrder, errno);

  // First above all numbers that are overwritten, then to their places.
  const int first_free = kFirstPassedFd + static_cast<int>(request.passed_count);
  std::vector<int> wanted{streams.theirs[0], streams.theirs[1], streams.theirs[2], theirs, order};
  wanted.insert(wanted.end(), request.passed, request.passed + request.passed_count);
  Actions actions(request.keep_ignored_signals);
  for (size_t place = 0; place < wanted.size(); ++place) {
    const int moved = held.hold(sys::call(SYS_fcntl, wanted[place], F_DUPFD_CLOEXEC, first_free));
    if (moved < 0) return failed(ChildStage::kDescriptors, errno);
    if (posix_spawn_file_actions_adddup2(&actions.files, moved, static_cast<int>(place)) != 0)
      throw std::bad_alloc();
  }
  char name[] = "weft-keeper";
  char* const arguments[] = {name, nullptr};
  char* const nothing[] = {nullptr};
  const int error =
      posix_spawn(&launched.keeper, keeper, &actions.files, &actions.attributes, arguments, nothing);
  if (error) return failed(ChildStage::kKeeper, error);
  launched.control = ours;
  launched.input = streams.ours[0];
  launched.output = streams.ours[1];
  launched.errors = streams.ours[2];
  for (const int fd : {ours, streams.ours[0], streams.ours[1], streams.ours[2]}) held.give_up(fd);
  return 0;
}

}  // namespace

const char* keeper_file() noexcept {
  try {
    static const std::string* const file = new std::string(find_keeper());
    return file->c_str();
  } catch (...) {
    return "";
  }
}

int launch(const ChildRequest& request, Launched& launched, ChildFailure& failure) noexcept {
  try {
    return start_keeper(request, launched, failure);
  } catch (...) {
    failure = {ENOMEM, ChildStage::kOrder};
    return ENOMEM;
  }
}

}  // namespace weft::process
