// What actors' mailboxes can be told, and what they count.
#pragma once

#include <cstddef>
#include <cstdint>

#include "weft/detail/core.hpp"

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

/// A message that was told, not asked, and will not be handled. The strings live as long as the call.
struct DeadLetter {
  const char* actor;    ///< its name, as ActorOptions gives it
  const char* message;  ///< the type of what was to be called, mangled
  const char*
      reason;  ///< "stopped": before it came to it; "full": its mailbox was; "expired": its deadline passed
};

/// Called for each; null: none. On any thread, several at once; it must neither throw nor wait. What is sent
/// from it and not handled is not reported in turn. Returns the former one. Any thread.
using DeadLetterHandler = void (*)(const DeadLetter& letter) noexcept;
WEFT_API DeadLetterHandler set_dead_letter_handler(DeadLetterHandler handler) noexcept;

namespace detail {
WEFT_API void report_dead_letter(const DeadLetter& letter) noexcept;
}  // namespace detail

/// What an actor has done so far. The counts are of different moments while it works.
struct ActorStatistics {
  size_t waiting;      ///< messages in its mailbox
  uint64_t handled;    ///< also those that failed
  uint64_t failed;     ///< those whose exception nobody got as an answer
  uint64_t refused;    ///< dropped, or left when it stopped
  int64_t busy_nanos;  ///< in handlers
  uint64_t restarted;  ///< how often it was made anew
};

}  // namespace weft
