// What actors' mailboxes can be told, and what they count.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft {

/// What sending does when a mailbox is full.
enum class Overflow : uint8_t {
  kBlock,  ///< waits for room
  kDrop,   ///< refuses the message
  kRaise,  ///< throws MailboxFull
};

/// Where an actor's messages wait.
struct Mailbox {
  /// How many may, but for urgent ones; kUnlimited: any number.
  size_t capacity = kUnlimited;
  Overflow overflow = Overflow::kBlock;
  static constexpr size_t kUnlimited = SIZE_MAX;
};

/// What an actor has done so far. The counts are of different moments while it works.
struct ActorStatistics {
  size_t waiting;      ///< messages in its mailbox
  uint64_t handled;    ///< also those that failed
  uint64_t failed;     ///< those whose exception nobody got as an answer
  uint64_t refused;    ///< dropped, or left when it stopped
  int64_t busy_nanos;  ///< in handlers
};

}  // namespace weft
