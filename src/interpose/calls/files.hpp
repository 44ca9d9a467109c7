#pragma once
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>

// Declared by libc's headers to fortified programs only.
extern "C" {
ssize_t __read_chk(int fd, void* buffer, size_t size, size_t room);
ssize_t __pread_chk(int fd, void* buffer, size_t size, off_t offset, size_t room);
int __open_2(const char* path, int flags);
int __openat_2(int directory, const char* path, int flags);
char* __fgets_chk(char* text, size_t room, int size, FILE* stream);
}

// X(call), Y(symbol, call): see calls.hpp.
#define WEFT_FILES_CALLS(X) \
  X(read)                   \
  X(write)                  \
  X(readv)                  \
  X(writev)                 \
  X(pread)                  \
  X(pwrite)                 \
  X(preadv)                 \
  X(pwritev)                \
  X(preadv2)                \
  X(pwritev2)               \
  X(__read_chk)             \
  X(__pread_chk)            \
  X(eventfd_read)           \
  X(eventfd_write)          \
  X(open)                   \
  X(openat)                 \
  X(creat)                  \
  X(__open_2)               \
  X(__openat_2)             \
  X(fgets)                  \
  X(__fgets_chk)            \
  X(getdelim)               \
  X(getline)                \
  X(fgetc)                  \
  X(getchar)                \
  X(fsync)                  \
  X(fdatasync)              \
  X(sync)                   \
  X(syncfs)                 \
  X(msync)                  \
  X(sync_file_range)        \
  X(fallocate)              \
  X(posix_fallocate)        \
  X(ftruncate)              \
  X(truncate)               \
  X(copy_file_range)
#define WEFT_FILES_ALIASES(Y)           \
  Y(getc, fgetc)                        \
  Y(_IO_getc, fgetc)                    \
  Y(__getdelim, getdelim)               \
  Y(__read, read)                       \
  Y(__write, write)                     \
  Y(pread64, pread)                     \
  Y(__pread64, pread)                   \
  Y(__pread64_chk, __pread_chk)         \
  Y(pwrite64, pwrite)                   \
  Y(__pwrite64, pwrite)                 \
  Y(preadv64, preadv)                   \
  Y(pwritev64, pwritev)                 \
  Y(preadv64v2, preadv2)                \
  Y(pwritev64v2, pwritev2)              \
  Y(open64, open)                       \
  Y(__open, open)                       \
  Y(__open64, open)                     \
  Y(openat64, openat)                   \
  Y(creat64, creat)                     \
  Y(__open64_2, __open_2)               \
  Y(__openat64_2, __openat_2)           \
  Y(fallocate64, fallocate)             \
  Y(posix_fallocate64, posix_fallocate) \
  Y(ftruncate64, ftruncate)             \
  Y(truncate64, truncate)
