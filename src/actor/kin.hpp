// What an actor has that supervises, is supervised, or is made anew.
#pragma once

#include <atomic>
#include <memory>

#include "actor/pool.hpp"
#include "weft/detail/actor.hpp"

namespace weft::detail {

class ActorTimer;

struct ActorCore::Kin {
  struct Letter final : Message {
    Letter(const MessageType& what, ActorCore& whose) noexcept : from(whose) { type = &what; }
    ActorCore& from;
  };

  explicit Kin(ActorCore& self) noexcept : halt(kHalt, self), escalation(kEscalation, self) {}

  // The runner's.
  Restart restart;
  uint32_t in_a_row = 0;
  Nanos lives_since = 0;
  Nanos resume_at = 0;
  uint32_t chance = 0;
  Message* stops = nullptr;  // what asked it to stop, and is to be answered when its children are done

  // Sent by it, or to it, at most once; with a reference to it while they are.
  Letter halt;
  Letter escalation;

  std::atomic<ActorTimer*> timer{nullptr};  // which ends a pause on a dispatcher

  // The registry's lock guards these.
  ActorCore* parent = nullptr;    // with a reference
  ActorCore* children = nullptr;  // those that were not asked to stop
  ActorCore* halted = nullptr;    // those that were
  ActorCore* sibling = nullptr;   // the next in the parent's list
  ActorCore** link = nullptr;     // what points to this one there
  bool ending = false;            // it has ended, and is done when its children are

  bool childless() const noexcept { return !children && !halted; }

  std::unique_ptr<Pool> pool;  // of a pool; never changes while it has children
};

}  // namespace weft::detail
