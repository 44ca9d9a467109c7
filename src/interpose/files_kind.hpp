// What kind of file stands behind a descriptor or path: how long a call on it may take.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "fiber/clock.hpp"

namespace weft::engine::interpose {

enum class FileKind : uint8_t {
  kUnknown,  ///< no such file, or the kernel does not say
  kMemory,   ///< a file of tmpfs, proc and the like, or /dev/null and its kin: never waits
  kDisk,     ///< a regular file of a local file system: waits for the disk when it is not cached
  kRemote,   ///< a regular file of a file system that may take any time
  kBlock,    ///< a block device
  kDirectory,
  kPipe,
  kSocket,
  kTerminal,
  kPtyMaster,
  kDevice,  ///< another character device
  kEvents,  ///< a descriptor without a file: inotify, eventfd, timerfd, signalfd, pidfd, ...
  kOther,
};

struct FileInfo {
  FileKind kind = FileKind::kUnknown;
  int error = 0;  ///< why it is kUnknown
  uint64_t size = 0;
};

/// Asks the kernel; parks the first time for a file system that may take long to answer. REQUIRES: the caller
/// is a fiber that may switch.
FileInfo info_of(int fd) noexcept;
/// Likewise, of a path as openat takes it; `follow`: of what a symbolic link leads to.
FileInfo info_of(int directory, const char* path, bool follow) noexcept;

/// True of a signalfd, which each thread reads its own signals from.
bool is_signalfd(int fd) noexcept;

/// Calls on local disks that mostly only touch the page cache are made right on the carrier. One that took
/// long is taken as a sign that the disk is busy or the cache is cold: for a while this returns false, and
/// such calls are to go to file_io.
bool disk_is_quick(Nanos now) noexcept;
/// Such a call was made, from `start` on.
void disk_was_used(Nanos start) noexcept;

/// Calls that move more are never made on the carrier.
inline constexpr size_t kSmallTransfer = 64 * 1024;

}  // namespace weft::engine::interpose
