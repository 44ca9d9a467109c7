// Messages to actors that are sent later, once or again and again.
#pragma once

#include "weft/detail/actor.hpp"

namespace weft::detail {

class ActorTimer;

/// Where a timer gets its messages from. Both are called on a thread of the library's own, and must not wait
/// for long; release() also on that of who cancels.
struct TimerSource {
  Message* (*make)(void* argument) noexcept;  ///< null: none this time
  void (*release)(void* argument) noexcept;   ///< it will not be asked again
  void* argument;
};

/// From `first` on, and every `period` nanoseconds after (0: once), sends the actor a message, until it has
/// stopped. What comes while its mailbox is full is refused. Periods that were missed are left out. Needs no
/// runtime: an OS thread of the library's sends them. One reference is the caller's. Null: ENOMEM or EAGAIN,
/// in errno; `source` is the caller's still. In a fork child there are no timers.
WEFT_API ActorTimer* actor_timer_start(ActorCore& actor, Nanos first, Nanos period,
                                       const TimerSource& source) noexcept;
/// False if it had sent its last message, or was cancelled. One that is about to be sent may come still.
WEFT_API bool actor_timer_cancel(ActorTimer& timer) noexcept;
WEFT_API void actor_timer_release(ActorTimer& timer) noexcept;

}  // namespace weft::detail
