// What becomes of an actor that fails, and how several share the work.
#pragma once

#include <chrono>
#include <cstdint>

namespace weft {

/// How often an actor that failed is made anew, and when. Its references, its mailbox and what is in there
/// stay; the message that it failed at is gone.
struct Restart {
  /// How many times in a row; with 0 it stops at its first failure. In a row: without having run for `quiet`
  /// in between.
  uint32_t limit = 0;
  /// With 0 failures at messages are never in a row, and only those to start count.
  std::chrono::nanoseconds quiet = std::chrono::seconds(60);
  /// How long after the failure, the first time in a row. Twice as long each further time, up to `longest`;
  /// up to a quarter is added by chance, so that what failed together does not come back together.
  std::chrono::nanoseconds delay = std::chrono::milliseconds(100);
  std::chrono::nanoseconds longest = std::chrono::seconds(10);
};

/// Which actor of a pool gets the next message.
enum class Routing : uint8_t {
  kRoundRobin,    ///< one after the other
  kRandom,        ///< any
  kLeastWaiting,  ///< one that has the fewest, waiting or being handled
};

}  // namespace weft
