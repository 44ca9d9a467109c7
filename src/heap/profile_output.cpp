#include "heap/profile_output.hpp"

#include <fcntl.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <string>

#include "fiber/sys.hpp"

namespace weft::heap {

int write_file(const char* path, std::string_view content) {
  namespace sys = engine::sys;
  // Of its own for each writer: two that write the same path leave one's file, whole.
  static constinit std::atomic<uint32_t> written{0};
  const std::string temporary = std::string(path) + ".weft-" + std::to_string(sys::call(SYS_getpid)) + "-" +
                                std::to_string(written.fetch_add(1, std::memory_order_relaxed));
  const long file =
      sys::call(SYS_openat, AT_FDCWD, temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) return static_cast<int>(-file);
  long error = 0;
  while (!content.empty() && error == 0) {
    const long count = sys::call(SYS_write, file, content.data(), content.size());
    if (count >= 0)
      content.remove_prefix(static_cast<size_t>(count));
    else if (count != -EINTR)
      error = count;
  }
  const long closed = sys::call(SYS_close, file);
  if (error == 0) error = closed;
  if (error == 0) error = sys::call(SYS_rename, temporary.c_str(), path);
  if (error != 0) sys::call(SYS_unlink, temporary.c_str());
  return static_cast<int>(-error);
}

}  // namespace weft::heap
