// What the library and weft-keeper say to each other.
//
// The keeper is started with its command's standard streams at 0, 1 and 2, a SOCK_SEQPACKET socket at 3, a
// file with the Order at 4, and the descriptors that the command is to inherit from 5 on.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace weft::process {

inline constexpr int kControlFd = 3, kOrderFd = 4, kFirstPassedFd = 5;
inline constexpr uint32_t kProtocol = 0x57460001;
inline constexpr uint32_t kMaxPassed = 200, kMaxLimits = 16, kMaxGroups = 64;

/// The head of the order file. Behind it, each ended by NUL: the file to execute, the working directory ("":
/// the keeper's), then the arguments, then the environment.
struct Order {
  uint32_t protocol = kProtocol;
  uint32_t arguments = 0, variables = 0;
  pid_t parent = 0;
  int64_t mask = -1;  // umask; -1: as it is
  int64_t user = -1, group = -1;
  int32_t nice = 0;
  uint32_t keep_ignored = 0;  // leave SIGPIPE, SIGXFSZ ignored where the parent ignores them
  uint64_t signal_mask = 0;   // blocked in the command; bit n - 1 is signal n
  uint32_t passed = 0;
  int32_t targets[kMaxPassed] = {};  // the numbers that the command sees
  uint32_t limits = 0;
  struct Limit {
    int32_t resource;
    uint64_t soft, hard;
  } limit[kMaxLimits] = {};
  int32_t groups = -1;  // supplementary groups; -1: as they are
  uint32_t group_list[kMaxGroups] = {};
};

/// What failed before the command ran.
enum class Stage : uint32_t { kNone, kKeeper, kOrder, kDescriptors, kIdentity, kLimits, kFolder, kExecute };

enum class What : uint32_t {
  kStarted = 1,  ///< a: the command's process id
  kFailed,       ///< a: errno, b: Stage. The keeper ends
  kExited,       ///< a: the status of waitpid(), of the command itself
  kGone,         ///< nothing of the tree is left. a: was SIGKILL needed? The keeper ends
  kStuck,        ///< a: how many processes could not be killed, b: one of them, c: errno. The keeper ends
};

struct Event {
  What what;
  int32_t a = 0, b = 0, c = 0;
};

enum class Scope : uint32_t {
  kCommand,  ///< the command itself
  kGroup,    ///< its process group
  kTree,     ///< whatever descends from it
};

enum class Wish : uint32_t {
  kSignal = 1,  ///< send `signal` to `scope`
  kEnd,         ///< send `signal` to the group, then to what is left; SIGKILL after `grace_ms`; then end
};

struct Request {
  Wish wish;
  int32_t signal = 0;
  Scope scope = Scope::kGroup;
  uint32_t grace_ms = 0;
};

}  // namespace weft::process
