// Regular-file operations that do not block the carrier: through io_uring where the carrier polls with it,
// else through the offload pool. All must be called on a fiber that may switch. Each returns what the system
// call returns: a value, or a negated errno. The caller's memory is in the kernel's hands until they return:
// they are neither cancellable nor interruptible, like reads and writes of a file natively.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

namespace weft::engine::file_io {

/// offset -1: at the file's position, which moves.
long readv(int fd, const iovec* vectors, int count, off_t offset) noexcept;
long writev(int fd, const iovec* vectors, int count, off_t offset) noexcept;
long openat(int directory, const char* path, int flags, mode_t mode) noexcept;
long fsync(int fd, bool data_only) noexcept;
long fallocate(int fd, int mode, off_t offset, off_t length) noexcept;

}  // namespace weft::engine::file_io
