#include "leaks/census.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <system_error>

#include "fiber/clock.hpp"
#include "fiber/fiber.hpp"
#include "fiber/private_fd.hpp"
#include "weft/net/address.hpp"

namespace weft::detail {

namespace {

struct Folder {
  explicit Folder(const std::string& path) : stream(opendir(path.c_str())) {
    if (!stream && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
      throw std::system_error(errno, std::generic_category(), path);
  }
  ~Folder() {
    if (stream) closedir(stream);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  /// The next name but "." and ".."; null: there is none.
  const char* next() const noexcept {
    while (const dirent* const entry = stream ? readdir(stream) : nullptr)
      if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) return entry->d_name;
    return nullptr;
  }

  DIR* const stream;
};

// "" if it cannot be read. Files of /proc have no size beforehand.
std::string read_file(const std::string& path) {
  std::string text;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
    throw std::system_error(errno, std::generic_category(), path);
  if (fd < 0) return text;
  char buffer[4096];
  for (ssize_t size; (size = read(fd, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(size));
  close(fd);
  return text;
}

std::string first_line(const std::string& path) {
  const std::string text = read_file(path);
  return text.substr(0, text.find('\n'));
}

int option(int fd, int name) noexcept {
  int value = -1;
  socklen_t size = sizeof value;
  return getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

const char* name_of(int number, std::initializer_list<std::pair<int, const char*>> names) noexcept {
  for (const auto& [known, name] : names)
    if (known == number) return name;
  return "other";
}

template <typename Ask>
std::string address_of(int fd, Ask&& ask) {
  sockaddr_storage bytes{};
  socklen_t size = sizeof bytes;
  auto* const address = reinterpret_cast<sockaddr*>(&bytes);
  if (ask(fd, address, &size) != 0) return {};
  try {
    return net::Address(address, size).to_string();
  } catch (const std::invalid_argument&) {
    return {};
  }
}

std::string describe_socket(int fd) {
  std::string text = "socket, ";
  text += name_of(
      option(fd, SO_DOMAIN),
      {{AF_UNIX, "AF_UNIX"}, {AF_INET, "AF_INET"}, {AF_INET6, "AF_INET6"}, {AF_NETLINK, "AF_NETLINK"}});
  text += ", ";
  text += name_of(option(fd, SO_TYPE), {{SOCK_STREAM, "SOCK_STREAM"},
                                        {SOCK_DGRAM, "SOCK_DGRAM"},
                                        {SOCK_SEQPACKET, "SOCK_SEQPACKET"},
                                        {SOCK_RAW, "SOCK_RAW"}});
  if (const std::string local = address_of(fd, getsockname); !local.empty()) text += ", " + local;
  if (const std::string peer = address_of(fd, getpeername); !peer.empty()) text += " connected to " + peer;
  if (option(fd, SO_ACCEPTCONN) == 1) text += ", listening";
  return text;
}

// The engine's own threads, and those that the kernel runs for io_uring, are nobody's to join.
bool is_nobodys(const std::string& name) noexcept {
  return name.starts_with("weft-") || name.starts_with("iou-");
}

}  // namespace

void LeakCensus::take_descriptors() {
  const Folder folder("/proc/self/fd");
  if (!folder.stream) return;
  while (const char* const name = folder.next()) {
    const int fd = atoi(name);
    if (fd == dirfd(folder.stream) || engine::is_private_fd(fd)) continue;
    char target[4096];
    const ssize_t size = readlink(("/proc/self/fd/" + std::string(name)).c_str(), target, sizeof target);
    if (size < 0) continue;  // closed meanwhile
    const std::string what(target, static_cast<size_t>(size));
    const bool is_socket = what.starts_with("socket:");
    const bool is_path = what.starts_with('/');
    of(LeakResource::kDescriptor)[std::string(name) + ' ' + what] = {
        fd, is_path ? what : "", "fd " + std::string(name) + ": " + (is_socket ? describe_socket(fd) : what)};
  }
}

void LeakCensus::take_threads() {
  const Folder folder("/proc/self/task");
  while (const char* const id = folder.next()) {
    const std::string name = first_line("/proc/self/task/" + std::string(id) + "/comm");
    if (name.empty() || is_nobodys(name)) continue;
    of(LeakResource::kThread)[id] = {atoi(id), "", "thread " + std::string(id) + ": " + name};
  }
}

void LeakCensus::take_fibers() {
  engine::Fiber::for_each([this](const engine::Fiber& fiber) {
    if (fiber.is_main() || fiber.done()) return;
    const engine::Fiber::Name name = fiber.name();
    const std::string id = std::to_string(fiber.id());
    of(LeakResource::kFiber)[id] = {static_cast<int64_t>(fiber.id()), "",
                                    "fiber " + id + (name[0] ? ": " + std::string(name.data()) : "")};
  });
}

// /proc has a thread's children with CONFIG_PROC_CHILDREN, as distributions' kernels have it.
void LeakCensus::take_children() {
  const Folder folder("/proc/self/task");
  while (const char* const thread = folder.next()) {
    const std::string text = read_file("/proc/self/task/" + std::string(thread) + "/children");
    for (const char* at = text.c_str();;) {
      char* end;
      const long pid = strtol(at, &end, 10);
      if (end == at) break;
      at = end;
      // "PID (NAME) STATE ..."; the name may hold anything.
      const std::string stat = first_line("/proc/" + std::to_string(pid) + "/stat");
      const size_t open = stat.find('('), close = stat.rfind(')');
      if (open == stat.npos || close == stat.npos || close + 2 >= stat.size()) continue;
      const bool ended = stat[close + 2] == 'Z';
      of(LeakResource::kChild)[std::to_string(pid)] = {pid, "",
                                                       "process " + std::to_string(pid) + ": " +
                                                           stat.substr(open + 1, close - open - 1) +
                                                           (ended ? ", ended but not waited for" : "")};
    }
  }
}

void LeakCensus::take_names(LeakResource resource, const std::string& path) {
  const Folder folder(path);
  while (const char* const name = folder.next()) {
    struct stat status {};
    if (fstatat(dirfd(folder.stream), name, &status, AT_SYMLINK_NOFOLLOW) != 0 || status.st_uid != geteuid())
      continue;
    const std::string full = path + '/' + name;
    of(resource)[full + ' ' + std::to_string(status.st_ino)] = {0, full, full};
  }
}

void LeakCensus::take_files() {
  const char* const folder = getenv("TMPDIR");
  take_names(LeakResource::kFile, folder && *folder ? folder : "/tmp");
}

void LeakCensus::take_segments() {
  take_names(LeakResource::kSegment, "/dev/shm");
  const std::string table = read_file("/proc/sysvipc/shm");
  for (size_t line = table.find('\n'); line != table.npos; line = table.find('\n', line + 1)) {
    int id = 0, creator = 0;
    unsigned long size = 0;
    unsigned owner = 0;
    if (sscanf(table.c_str() + line, " %*d %d %*o %lu %d %*d %*d %u", &id, &size, &creator, &owner) != 4 ||
        owner != geteuid())
      continue;
    if (makers_ == Makers::kThisProcess && creator != getpid()) continue;
    of(LeakResource::kSegment)["shm " + std::to_string(id)] = {
        id, "", "shared memory segment " + std::to_string(id) + ": " + std::to_string(size) + " bytes"};
  }
}

void LeakCensus::take() {
  const auto wanted = [this](LeakResource resource) {
    return (resources_ & 1u << static_cast<unsigned>(resource)) != 0;
  };
  if (wanted(LeakResource::kDescriptor)) take_descriptors();
  if (wanted(LeakResource::kThread)) take_threads();
  if (wanted(LeakResource::kFiber)) take_fibers();
  if (wanted(LeakResource::kChild)) take_children();
  if (wanted(LeakResource::kFile)) take_files();
  if (wanted(LeakResource::kSegment)) take_segments();
}

bool LeakCensus::has_more_than(const LeakCensus& before) const noexcept {
  for (size_t i = 0; i < kLeakResources; ++i)
    if (things_[i].size() > before.things_[i].size()) return true;
  return false;
}

LeakCensus* take_leak_census(uint32_t resources) noexcept {
  try {
    auto census = std::make_unique<LeakCensus>(resources);
    census->take();
    return census.release();
  } catch (const std::system_error& error) {
    errno = error.code().value();
  } catch (const std::bad_alloc&) {
    errno = ENOMEM;
  }
  return nullptr;
}

void drop_leak_census(LeakCensus* census) noexcept {
  delete census;
}

size_t leak_census_count(const LeakCensus& census, LeakResource resource) noexcept {
  return census.of(resource).size();
}

void visit_new_things(const LeakCensus& before, const LeakCensus& after, LeakResource resource, void* who,
                      void (*visit)(void* who, const LeakThing& thing)) noexcept {
  for (const auto& [key, thing] : after.of(resource))
    if (!before.of(resource).contains(key))
      visit(who, {resource, thing.number, thing.path.c_str(), thing.text.c_str()});
}

LeakCensus* settle_leak_census(const LeakCensus& before, Nanos limit) noexcept {
  const Nanos end = now() + limit;
  Nanos pause = 200'000;
  for (;;) {
    LeakCensus* const census = take_leak_census(before.resources());
    if (!census || !census->has_more_than(before) || now() >= end) return census;
    drop_leak_census(census);
    const int nobody = 0;
    await(&nobody, now() + pause, kUncancellable, "leak census", [] { return false; });
    pause = std::min(2 * pause, Nanos{20'000'000});
  }
}

}  // namespace weft::detail
