// What is routed, when a program says so itself: patch() and unpatch().
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "interpose/calls.hpp"
#include "interpose/elf/patcher.hpp"
#include "runtime/settings.hpp"

namespace weft::engine::interpose {

/// Families as bits.
using Families = uint32_t;
constexpr Families bit(Family family) noexcept {
  return Families{1} << static_cast<int>(family);
}

/// Those that users choose from. Of the others, and of these what never waits but wakes who does, everything
/// is routed as long as anything is: a fiber that waits must hear of a post, a close, a signal.
inline constexpr Families kChosenFamilies =
    bit(Family::kSockets) | bit(Family::kPolling) | bit(Family::kSleeping) | bit(Family::kLocks) |
    bit(Family::kThreads) | bit(Family::kNames) | bit(Family::kFiles) | bit(Family::kChildren);

struct Scope {
  Families families = kChosenFamilies;
  /// Libraries, by patterns as for a shell (fnmatch) of their file names, whose waiting calls are left alone.
  std::vector<std::string> excluded;
  /// Whose threads become fibers, if Family::kThreads is among the families.
  Threads threads = Threads::kPython;
};

/// Does `scope` let the calls of `symbol`, of that family, be routed in the object of that path? Threads
/// apart.
bool covers(const Scope& scope, Family family, std::string_view symbol, std::string_view object) noexcept;

/// Puts `scope` in force, over those that are; what it says counts alone. Routes the calls if none were. *id:
/// for leave(). Returns 0 or an errno; then nothing has changed. Any thread.
int enter(Scope scope, uint64_t* id);

/// Takes a scope back; the newest of those that are left counts. With the last, every slot is put back;
/// REQUIRES then: no fiber stands for a thread any more. Returns 0; EINVAL: no such scope.
int leave(uint64_t id);

/// How many scopes are in force, `weft run` and holds not counted.
int scopes() noexcept;
/// Is everything routed for as long as the process lives, by install()?
bool permanent() noexcept;

/// For fibers that were spawned by an interpreter's program, outside of every scope: what makes a fiber a
/// thread is routed (identity, signals, loading), and nothing that waits. Counted. Returns 0 or an errno.
int hold();
void release_hold();

}  // namespace weft::engine::interpose
