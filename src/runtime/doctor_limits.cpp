#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>

#include "runtime/doctor_system.hpp"

namespace weft::engine::doctor {

namespace {

// What a program with very many connections or fibers wants.
constexpr uint64_t kManyDescriptors = 65536, kManyMappings = 1'000'000, kManyThreads = 1024;
constexpr uint64_t kSmallMemory = uint64_t{512} << 20;

std::string show(rlim_t value) {
  return value == RLIM_INFINITY ? "unlimited" : std::to_string(value);
}

std::string show_bytes(uint64_t bytes) {
  return std::to_string(bytes >> 20) + " MiB";
}

std::optional<uint64_t> read_number(const std::string& path) {
  const std::string line = first_line(path);
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), number);
  if (error != std::errc{} || end != line.data() + line.size()) return std::nullopt;
  return number;
}

rlimit limit_of(__rlimit_resource resource) {
  rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
  getrlimit(resource, &limit);
  return limit;
}

Limit descriptors() {
  const rlimit limit = limit_of(RLIMIT_NOFILE);
  Limit result{"ulimit -n", show(limit.rlim_cur) + " (at most " + show(limit.rlim_max) + ")"};
  result.bites = limit.rlim_cur < kManyDescriptors;
  result.meaning = "open descriptors; each connection takes one";
  if (!result.bites) return result;
  if (limit.rlim_max > limit.rlim_cur) result.remedy = "ulimit -n " + show(limit.rlim_max);
  if (limit.rlim_max < kManyDescriptors)
    result.remedy =
        "as root: ulimit -n 1048576 (systemd: LimitNOFILE=1048576; docker run --ulimit nofile=1048576)";
  return result;
}

Limit mappings(GuardKind guards) {
  const uint64_t count = read_number("/proc/sys/vm/max_map_count").value_or(0);
  Limit result{"vm.max_map_count", std::to_string(count)};
  result.bites = guards == GuardKind::kProtect && count < kManyMappings;
  result.meaning =
      guards == GuardKind::kProtect
          ? "memory mappings; each fiber takes two, so at most " + std::to_string(count / 2) + " fibers"
          : "memory mappings; fibers take none, since their guard pages are made by madvise";
  if (result.bites) result.remedy = "sysctl -w vm.max_map_count=1048576";
  return result;
}

Limit overcommit() {
  const std::string mode = first_line("/proc/sys/vm/overcommit_memory");
  Limit result{"vm.overcommit_memory", mode, mode == "2"};
  result.meaning = result.bites ? "the kernel sets memory aside for all of every stack, touched or not"
                                : "stacks take the memory that they touch";
  if (result.bites) result.remedy = "sysctl -w vm.overcommit_memory=0, or a smaller --stack-size";
  return result;
}

Limit address_space() {
  const rlimit limit = limit_of(RLIMIT_AS);
  Limit result{"ulimit -v", limit.rlim_cur == RLIM_INFINITY ? "unlimited" : show_bytes(limit.rlim_cur)};
  result.bites = limit.rlim_cur != RLIM_INFINITY;
  result.meaning = "address space; each fiber takes 1 MiB of it, or --stack-size";
  if (result.bites) result.remedy = "ulimit -v unlimited";
  return result;
}

Limit threads() {
  const rlimit limit = limit_of(RLIMIT_NPROC);
  Limit result{"ulimit -u", show(limit.rlim_cur)};
  result.bites = geteuid() != 0 && limit.rlim_cur < kManyThreads;
  result.meaning =
      "OS threads and processes of this user; fibers are none, blocking calls that are offloaded take some";
  if (result.bites) result.remedy = "ulimit -u " + show(limit.rlim_max);
  return result;
}

Limit locked_memory(const IoUring& io_uring) {
  const rlimit limit = limit_of(RLIMIT_MEMLOCK);
  Limit result{"ulimit -l", limit.rlim_cur == RLIM_INFINITY ? "unlimited"
                                                            : std::to_string(limit.rlim_cur / 1024) + " KiB"};
  result.bites = !io_uring.available && io_uring.remedy.starts_with("ulimit -l");
  result.meaning = "locked memory; io_uring's rings count in it before Linux 5.12";
  if (result.bites) result.remedy = io_uring.remedy;
  return result;
}

// The smallest of the limits on this process's control groups, of either version.
std::optional<uint64_t> cgroup_memory() {
  std::optional<uint64_t> smallest;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    const bool unified = controllers.empty();
    if (!unified && ("," + controllers + ",").find(",memory,") == std::string::npos) continue;
    const std::string root = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    const char* const file = unified ? "/memory.max" : "/memory.limit_in_bytes";
    for (;;) {
      if (const auto limit = read_number(root + (path == "/" ? "" : path) + file))
        smallest = std::min(smallest.value_or(*limit), *limit);
      if (path.empty() || path == "/") break;
      path.resize(path.rfind('/'));
    }
  }
  // Version 1 says "no limit" with a number near the largest.
  if (smallest && *smallest > (uint64_t{1} << 50)) return std::nullopt;
  return smallest;
}

Limit control_group() {
  const std::optional<uint64_t> limit = cgroup_memory();
  Limit result{"cgroup memory", limit ? show_bytes(*limit) : "unlimited"};
  result.bites = limit && *limit < kSmallMemory;
  result.meaning = "memory of this container or service; a sleeping Python thread takes about 9 KiB";
  if (result.bites) result.remedy = "docker run --memory=2g (systemd: MemoryMax=2G)";
  return result;
}

}  // namespace

std::vector<Limit> examine_limits(GuardKind guards) {
  return {descriptors(),   mappings(guards), overcommit(),
          address_space(), threads(),        locked_memory(examine_io_uring()),
          control_group()};
}

}  // namespace weft::engine::doctor
