#include "interpose/threads_refused.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <string_view>

#include "fiber/fiber.hpp"
#include "fiber/stack_pool.hpp"
#include "fiber/sys.hpp"
#include "host/text_sink.hpp"

namespace weft::engine::interpose {

namespace {

constexpr uint64_t kPage = 4096;

// A mapping may take a few more while it is changed, and the kernel has some of its own.
constexpr uint64_t kFewMappings = 16;

class File {
 public:
  explicit File(const char* path) noexcept
      : descriptor_(sys::call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC)) {}
  ~File() {
    if (descriptor_ >= 0) sys::call(SYS_close, descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // Empty at the end, and where nothing can be read.
  std::string_view read() noexcept {
    const long count = descriptor_ < 0 ? -1 : sys::call(SYS_read, descriptor_, buffer_, sizeof buffer_);
    return {buffer_, count > 0 ? static_cast<size_t>(count) : 0};
  }

 private:
  const long descriptor_;
  char buffer_[1024];
};

// The number at `index` among those of the first line; 0 if it cannot be read.
uint64_t read_number(const char* path, int index = 0) noexcept {
  File file(path);
  std::string_view text = file.read();
  for (size_t space; index > 0 && (space = text.find(' ')) != text.npos; --index)
    text.remove_prefix(space + 1);
  uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

uint64_t count_mappings() noexcept {
  File maps("/proc/self/maps");
  uint64_t lines = 0;
  for (std::string_view text = maps.read(); !text.empty(); text = maps.read())
    lines += static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
  return lines;
}

// Would `wanted` bytes more be beyond the limit? `statm`: which of the numbers in that file counts towards
// it.
bool is_beyond(int resource, int statm, uint64_t wanted, uint64_t& limit) noexcept {
  rlimit64 limits{};
  if (sys::call(SYS_prlimit64, 0, resource, nullptr, &limits) < 0 || limits.rlim_cur == RLIM64_INFINITY)
    return false;
  limit = limits.rlim_cur;
  return read_number("/proc/self/statm", statm) * kPage + wanted > limit;
}

class Line {
 public:
  Line& operator<<(std::string_view text) noexcept {
    sink_.write(text);
    return *this;
  }
  Line& operator<<(uint64_t number) noexcept {
    char digits[20];
    const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
    return *this << std::string_view(digits, static_cast<size_t>(end - digits));
  }

 private:
  host::FdSink sink_{STDERR_FILENO};
};

void explain(size_t stack_size, Line& line) noexcept {
  constexpr const char* kMapLimit = "/proc/sys/vm/max_map_count";
  const uint64_t wanted = std::max(stack_size, StackPool::kMinimumSize) + kPage;
  uint64_t limit = 0;
  if (StackPool::instance().full()) {
    line << "there is no room for more stacks of this size: use a smaller --stack-size";
  } else if (limit = read_number(kMapLimit); limit > 0 && count_mappings() + kFewMappings >= limit) {
    line << "all memory mappings that vm.max_map_count allows, " << limit
         << ", are used up: sysctl -w vm.max_map_count=1048576";
  } else if (is_beyond(RLIMIT_AS, 0, wanted, limit)) {
    line << "the address space that ulimit -v allows, " << limit / 1024
         << " KiB, is used up: ulimit -v unlimited, or a smaller --stack-size";
  } else if (is_beyond(RLIMIT_DATA, 5, wanted, limit)) {
    line << "the data that ulimit -d allows, " << limit / 1024
         << " KiB, is used up: ulimit -d unlimited, or a smaller --stack-size";
  } else if (read_number("/proc/sys/vm/overcommit_memory") == 2) {
    line << "the kernel promises no more memory, since vm.overcommit_memory is 2: sysctl -w "
            "vm.overcommit_memory=0, or a smaller --stack-size";
  } else {
    line << "the kernel gives no more memory: give this machine, container or service more (docker run "
            "--memory, systemd's MemoryMax), or start fewer threads";
  }
}

}  // namespace

void report_refused_thread(size_t stack_size) noexcept {
  static constinit std::atomic<bool> said{false};
  if (said.exchange(true, std::memory_order_relaxed)) return;
  Line line;
  line << "weft: cannot start a thread besides the " << Fiber::counts().alive << " that there are: ";
  explain(stack_size, line);
  line << "\n";
}

}  // namespace weft::engine::interpose
