// How actors are made, and what sending to them throws.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string_view>

#include "weft/dispatcher.hpp"
#include "weft/mailbox.hpp"
#include "weft/supervision.hpp"

namespace weft {

/// The actor has stopped, or stopped before it came to the message.
class ActorDead : public std::runtime_error {
 public:
  explicit ActorDead(const char* what = "the actor has stopped") : std::runtime_error(what) {}
};

/// The actor's mailbox has no room for the message.
class MailboxFull : public std::runtime_error {
 public:
  explicit MailboxFull(const char* what = "the actor's mailbox is full") : std::runtime_error(what) {}
};

/// How an actor is made.
struct ActorOptions {
  /// Shown by dumps, debuggers and reports of failures.
  std::string_view name = {};
  /// How many messages may wait, and what sending another does then.
  Mailbox mailbox = {};
  /// Of a fiber of its own: as in SpawnOptions.
  size_t stack_size = 0;
  /// What it runs on.
  Dispatcher dispatcher = {};
  /// Whether it is made anew when it fails. Its arguments must be copyable, then, and are kept.
  Restart restart = {};
};

/// How the actors of a pool are made, and share the work.
struct PoolOptions {
  size_t size = 1;
  Routing routing = Routing::kRoundRobin;
  ActorOptions actor = {};  ///< of each
};

}  // namespace weft
