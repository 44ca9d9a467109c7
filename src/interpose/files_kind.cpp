#include "interpose/files_kind.hpp"

#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <sys/statfs.h>

#include <atomic>
#include <cstdio>
#include <cstring>

#include "fiber/sys.hpp"
#include "poll/offload_pool.hpp"

namespace weft::engine::interpose {

namespace {

#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000U
#endif
#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000U
#endif
constexpr unsigned kAsked = STATX_TYPE | STATX_SIZE | STATX_MNT_ID | STATX_MNT_ID_UNIQUE;

constexpr unsigned kTypeMask = 0170000;
enum : unsigned {
  kRegularType = 0100000,
  kDirectoryType = 0040000,
  kCharacterType = 0020000,
  kBlockType = 0060000,
  kPipeType = 0010000,
  kSocketType = 0140000,
};

FileKind kind_of_system(long magic) noexcept {
  switch (magic) {
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
    case PROC_SUPER_MAGIC:
    case SYSFS_MAGIC:
    case CGROUP_SUPER_MAGIC:
    case CGROUP2_SUPER_MAGIC:
    case HUGETLBFS_MAGIC:
    case DEBUGFS_MAGIC:
    case DEVPTS_SUPER_MAGIC:
    case 0x19800202:  // MQUEUE_MAGIC
      return FileKind::kMemory;
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case OVERLAYFS_SUPER_MAGIC:
    case REISERFS_SUPER_MAGIC:
    case MSDOS_SUPER_MAGIC:
    case ISOFS_SUPER_MAGIC:
    case SQUASHFS_MAGIC:
    case 0xE0F5E1E2:  // EROFS
    case 0x2011BAB0:  // exFAT
    case 0x7366746E:  // NTFS3
    case 0x2FC12FC1:  // ZFS
    case 0xCA451A4E:  // bcachefs
    case 0x3153464A:  // JFS
      return FileKind::kDisk;
    default:
      return FileKind::kRemote;
  }
}

// What is known of mounts: the mount's id and, in the lowest bits, the kind. Since Linux 6.8 ids are never
// used twice; before, a mount that takes the number of a former one may be taken for that, at the cost of
// time and nothing else.
constexpr size_t kMounts = 64;
constinit std::atomic<uint64_t> g_mounts[kMounts];

template <typename Statfs>
FileKind kind_of_mount(uint64_t id, Statfs&& ask) noexcept {
  auto& slot = g_mounts[id % kMounts];
  const uint64_t known = slot.load(std::memory_order_relaxed);
  if (id != 0 && known >> 4 == id) return static_cast<FileKind>(known & 15);
  struct statfs system {};
  long error = 0;
  // A remote file system asks its server.
  OffloadPool::instance().run("statfs", [&]() noexcept { error = ask(system); });
  if (error < 0) return FileKind::kRemote;
  const FileKind kind = kind_of_system(system.f_type);
  slot.store(id << 4 | static_cast<uint64_t>(kind), std::memory_order_relaxed);
  return kind;
}

FileKind kind_of_character_device(unsigned major) noexcept {
  switch (major) {
    case 1:
      return FileKind::kMemory;
    case 5:  // tty, console, ptmx
    case 136:
    case 137:
    case 138:
    case 139:
    case 140:
    case 141:
    case 142:
    case 143:  // pts
      return FileKind::kTerminal;
    default:
      return FileKind::kDevice;
  }
}

FileKind kind_of_open_device(int fd, unsigned major) noexcept {
  if (major == 1) return FileKind::kMemory;
  struct termios settings;
  if (sys::call(SYS_ioctl, fd, TCGETS, &settings) < 0) return FileKind::kDevice;
  int number;
  return sys::call(SYS_ioctl, fd, TIOCGPTN, &number) == 0 ? FileKind::kPtyMaster : FileKind::kTerminal;
}

template <typename Statfs>
FileKind kind_by_type(const struct statx& what, Statfs&& ask) noexcept {
  switch (what.stx_mode & kTypeMask) {
    case kRegularType:
      return kind_of_mount(what.stx_mnt_id, ask);
    case kDirectoryType:
      return FileKind::kDirectory;
    case kBlockType:
      return FileKind::kBlock;
    case kPipeType:
      return FileKind::kPipe;
    case kSocketType:
      return FileKind::kSocket;
    case kCharacterType:
      return kind_of_character_device(what.stx_rdev_major);
    default:
      return FileKind::kOther;
  }
}

constexpr Nanos kSlow = kMillisecond, kSlowFor = 20 * kMillisecond;
constinit std::atomic<Nanos> g_disk_quick_from{0};

}  // namespace

FileInfo info_of(int fd) noexcept {
  struct statx what {};
  // The attributes as cached: a remote file system would ask its server.
  const long error = sys::call(SYS_statx, fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, kAsked, &what);
  if (error < 0) return {FileKind::kUnknown, static_cast<int>(-error)};
  const unsigned type = what.stx_mode & kTypeMask;
  FileInfo info{FileKind::kUnknown, 0, what.stx_size};
  if (type == 0)
    info.kind = FileKind::kEvents;
  else if (type == kCharacterType)
    info.kind = kind_of_open_device(fd, what.stx_rdev_major);
  else
    info.kind =
        kind_by_type(what, [&](auto& system) noexcept { return sys::call(SYS_fstatfs, fd, &system); });
  return info;
}

FileInfo info_of(int directory, const char* path, bool follow) noexcept {
  struct statx what {};
  const int flags = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | (follow ? 0 : AT_SYMLINK_NOFOLLOW);
  const long error = sys::call(SYS_statx, directory, path, flags, kAsked, &what);
  if (error < 0) return {FileKind::kUnknown, static_cast<int>(-error)};
  const FileKind kind = kind_by_type(what, [&](auto& system) noexcept -> long {
    const long fd = sys::call(SYS_openat, directory, path, O_PATH | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW));
    if (fd < 0) return fd;
    const long asked = sys::call(SYS_fstatfs, fd, &system);
    sys::call(SYS_close, fd);
    return asked;
  });
  return {kind, 0, what.stx_size};
}

bool is_signalfd(int fd) noexcept {
  char link[32], target[32];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  static constexpr char kName[] = "anon_inode:[signalfd]";
  return sys::call(SYS_readlink, link, target, sizeof target) == sizeof kName - 1 &&
         memcmp(target, kName, sizeof kName - 1) == 0;
}

bool disk_is_quick(Nanos now) noexcept {
  return now >= g_disk_quick_from.load(std::memory_order_relaxed);
}

void disk_was_used(Nanos start) noexcept {
  const Nanos now = monotonic_now();
  if (now - start > kSlow) g_disk_quick_from.store(now + kSlowFor, std::memory_order_relaxed);
}

}  // namespace weft::engine::interpose
