// Files: read, write and their many forms.
#include "interpose/files.hpp"

#include "interpose/calls.hpp"

namespace weft::engine::interpose {

namespace {

constexpr int kMaxVectors = 1024;  // as the kernel takes them

bool valid_count(int count) noexcept {
  return count >= 0 && count <= kMaxVectors;
}

ssize_t transfer_one(bool writing, int fd, const void* buffer, size_t size, off_t offset,
                     const char* call) noexcept {
  const iovec vector{const_cast<void*>(buffer), size};
  return transfer({writing, fd, &vector, 1, offset, 0, call, true});
}

}  // namespace

// What reading or writing nothing means is for the kind of file to say, and waits for nobody: it goes
// straight to libc.

ssize_t routed::read(int fd, void* buffer, size_t size) noexcept {
  if (current_fiber() && size > 0) return transfer_one(false, fd, buffer, size, kAtPosition, "read");
  PinScope pin("read", __builtin_return_address(0));
  return real::read(fd, buffer, size);
}

ssize_t routed::write(int fd, const void* buffer, size_t size) noexcept {
  if (current_fiber() && size > 0) return transfer_one(true, fd, buffer, size, kAtPosition, "write");
  PinScope pin("write", __builtin_return_address(0));
  return real::write(fd, buffer, size);
}

ssize_t routed::readv(int fd, const iovec* vectors, int count) noexcept {
  if (current_fiber() && valid_count(count))
    return transfer({false, fd, vectors, count, kAtPosition, 0, "readv"});
  PinScope pin("readv", __builtin_return_address(0));
  return real::readv(fd, vectors, count);
}

ssize_t routed::writev(int fd, const iovec* vectors, int count) noexcept {
  if (current_fiber() && valid_count(count))
    return transfer({true, fd, vectors, count, kAtPosition, 0, "writev"});
  PinScope pin("writev", __builtin_return_address(0));
  return real::writev(fd, vectors, count);
}

ssize_t routed::pread(int fd, void* buffer, size_t size, off_t offset) noexcept {
  if (current_fiber() && size > 0 && offset >= 0)
    return transfer_one(false, fd, buffer, size, offset, "pread");
  PinScope pin("pread", __builtin_return_address(0));
  return real::pread(fd, buffer, size, offset);
}

ssize_t routed::pwrite(int fd, const void* buffer, size_t size, off_t offset) noexcept {
  if (current_fiber() && size > 0 && offset >= 0)
    return transfer_one(true, fd, buffer, size, offset, "pwrite");
  PinScope pin("pwrite", __builtin_return_address(0));
  return real::pwrite(fd, buffer, size, offset);
}

ssize_t routed::preadv(int fd, const iovec* vectors, int count, off_t offset) noexcept {
  if (current_fiber() && offset >= 0 && valid_count(count))
    return transfer({false, fd, vectors, count, offset, 0, "preadv"});
  PinScope pin("preadv", __builtin_return_address(0));
  return real::preadv(fd, vectors, count, offset);
}

ssize_t routed::pwritev(int fd, const iovec* vectors, int count, off_t offset) noexcept {
  if (current_fiber() && offset >= 0 && valid_count(count))
    return transfer({true, fd, vectors, count, offset, 0, "pwritev"});
  PinScope pin("pwritev", __builtin_return_address(0));
  return real::pwritev(fd, vectors, count, offset);
}

// With an offset of -1 these two are readv and writev.
ssize_t routed::preadv2(int fd, const iovec* vectors, int count, off_t offset, int flags) noexcept {
  if (current_fiber() && offset >= -1 && valid_count(count) && !(flags & RWF_NOWAIT))
    return transfer({false, fd, vectors, count, offset, flags, "preadv2"});
  PinScope pin("preadv2", __builtin_return_address(0));
  return real::preadv2(fd, vectors, count, offset, flags);
}

ssize_t routed::pwritev2(int fd, const iovec* vectors, int count, off_t offset, int flags) noexcept {
  if (current_fiber() && offset >= -1 && valid_count(count) && !(flags & RWF_NOWAIT))
    return transfer({true, fd, vectors, count, offset, flags, "pwritev2"});
  PinScope pin("pwritev2", __builtin_return_address(0));
  return real::pwritev2(fd, vectors, count, offset, flags);
}

// A buffer that is too small is libc's to complain of.
ssize_t routed::__read_chk(int fd, void* buffer, size_t size, size_t room) noexcept {
  if (current_fiber() && size > 0 && size <= room)
    return transfer_one(false, fd, buffer, size, kAtPosition, "read");
  PinScope pin("read", __builtin_return_address(0));
  return real::__read_chk(fd, buffer, size, room);
}

ssize_t routed::__pread_chk(int fd, void* buffer, size_t size, off_t offset, size_t room) noexcept {
  if (current_fiber() && size > 0 && size <= room && offset >= 0)
    return transfer_one(false, fd, buffer, size, offset, "pread");
  PinScope pin("pread", __builtin_return_address(0));
  return real::__pread_chk(fd, buffer, size, offset, room);
}

int routed::eventfd_read(int fd, eventfd_t* value) noexcept {
  if (current_fiber())
    return transfer_one(false, fd, value, sizeof *value, kAtPosition, "eventfd_read") == sizeof *value ? 0
                                                                                                       : -1;
  PinScope pin("eventfd_read", __builtin_return_address(0));
  return real::eventfd_read(fd, value);
}

int routed::eventfd_write(int fd, eventfd_t value) noexcept {
  if (current_fiber())
    return transfer_one(true, fd, &value, sizeof value, kAtPosition, "eventfd_write") == sizeof value ? 0
                                                                                                      : -1;
  PinScope pin("eventfd_write", __builtin_return_address(0));
  return real::eventfd_write(fd, value);
}

}  // namespace weft::engine::interpose
