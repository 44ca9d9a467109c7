// Files: what waits for a disk by its nature.
#include "fiber/sys.hpp"
#include "interpose/calls.hpp"
#include "interpose/files.hpp"
#include "interpose/files_offload.hpp"
#include "poll/file_io.hpp"

namespace weft::engine::interpose {

int routed::fsync(int fd) noexcept {
  if (current_fiber()) return int_result(file_io::fsync(fd, false));
  PinScope pin("fsync", __builtin_return_address(0));
  return real::fsync(fd);
}

int routed::fdatasync(int fd) noexcept {
  if (current_fiber()) return int_result(file_io::fsync(fd, true));
  PinScope pin("fdatasync", __builtin_return_address(0));
  return real::fdatasync(fd);
}

int routed::fallocate(int fd, int mode, off_t offset, off_t length) noexcept {
  if (current_fiber()) return int_result(file_io::fallocate(fd, mode, offset, length));
  PinScope pin("fallocate", __builtin_return_address(0));
  return real::fallocate(fd, mode, offset, length);
}

void routed::sync() noexcept {
  if (current_fiber()) return OffloadPool::instance().run("sync", []() noexcept { real::sync(); });
  PinScope pin("sync", __builtin_return_address(0));
  real::sync();
}

int routed::syncfs(int fd) noexcept {
  return offload(WEFT_CALL(syncfs), fd);
}

int routed::msync(void* address, size_t length, int flags) noexcept {
  return offload(WEFT_CALL(msync), address, length, flags);
}

int routed::sync_file_range(int fd, off_t offset, off_t length, unsigned flags) noexcept {
  return offload(WEFT_CALL(sync_file_range), fd, offset, length, flags);
}

// libc writes to each block where the file system cannot do it.
int routed::posix_fallocate(int fd, off_t offset, off_t length) noexcept {
  return offload(WEFT_CALL(posix_fallocate), fd, offset, length);
}

int routed::ftruncate(int fd, off_t length) noexcept {
  return offload(WEFT_CALL(ftruncate), fd, length);
}

int routed::truncate(const char* path, off_t length) noexcept {
  return offload(WEFT_CALL(truncate), path, length);
}

ssize_t routed::copy_file_range(int in, off_t* in_offset, int out, off_t* out_offset, size_t length,
                                unsigned flags) noexcept {
  return offload(WEFT_CALL(copy_file_range), in, in_offset, out, out_offset, length, flags);
}

}  // namespace weft::engine::interpose
