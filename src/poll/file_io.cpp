#include "poll/file_io.hpp"

#include <cerrno>

#include "fiber/sys.hpp"
#include "poll/offload_pool.hpp"
#include "poll/poller.hpp"

namespace weft::engine::file_io {

namespace {

using Kind = FileOperation::Kind;

// The system call itself, which may block the thread.
long call_now(const FileOperation& operation) noexcept {
  const auto& [kind, fd, memory, count, offset, length, call] = operation;
  switch (kind) {
    case Kind::kReadv:
      return offset == -1 ? sys::call(SYS_readv, fd, memory, count)
                          : sys::call(SYS_preadv, fd, memory, count, offset, 0);
    case Kind::kWritev:
      return offset == -1 ? sys::call(SYS_writev, fd, memory, count)
                          : sys::call(SYS_pwritev, fd, memory, count, offset, 0);
    case Kind::kOpenat:
      return sys::call(SYS_openat, fd, memory, count, length);
    case Kind::kFsync:
      return sys::call(count != 0 ? SYS_fdatasync : SYS_fsync, fd);
    case Kind::kFallocate:
      return sys::call(SYS_fallocate, fd, count, offset, length);
  }
  return -EINVAL;
}

long perform(const FileOperation& operation) noexcept {
  long result = Poller::of_this_carrier().file_operation(operation);
  if (result == Poller::kNotSupported)
    OffloadPool::instance().run(operation.call, [&]() noexcept { result = call_now(operation); });
  return result;
}

}  // namespace

long readv(int fd, const iovec* vectors, int count, off_t offset) noexcept {
  return perform({Kind::kReadv, fd, vectors, count, offset, 0, "readv"});
}

long writev(int fd, const iovec* vectors, int count, off_t offset) noexcept {
  return perform({Kind::kWritev, fd, vectors, count, offset, 0, "writev"});
}

long openat(int directory, const char* path, int flags, mode_t mode) noexcept {
  return perform({Kind::kOpenat, directory, path, flags, 0, mode, "openat"});
}

long fsync(int fd, bool data_only) noexcept {
  return perform({Kind::kFsync, fd, nullptr, data_only, 0, 0, data_only ? "fdatasync" : "fsync"});
}

long fallocate(int fd, int mode, off_t offset, off_t length) noexcept {
  return perform({Kind::kFallocate, fd, nullptr, mode, offset, length, "fallocate"});
}

}  // namespace weft::engine::file_io
