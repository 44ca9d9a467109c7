"""What becomes of actors that fail, pools of actors, and messages that nobody handles."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from weft import _weft
from weft.actor._names import ActorRef

if TYPE_CHECKING:
    from weft.actor._actor import Actor

A = TypeVar("A", bound="Actor")


@dataclass(frozen=True)
class Restart:
    """How often an actor that failed is made anew, and when. For `restart_policy`.

    The new instance gets the arguments of `start()`. References, mailbox and what is in there stay; the message that
    it failed at is gone.
    """

    limit: int = 10
    """How many times in a row: without having run for `quiet` in between."""
    quiet: float = 60.0
    """Seconds. With 0 failures at messages are never in a row, and only those to start count."""
    delay: float = 0.1
    """Seconds after the failure, the first time in a row; twice as long each further time, and up to a quarter more by
    chance, so that what failed together does not come back together."""
    longest: float = 10.0
    """The most that `delay` grows to, in seconds."""

    def __post_init__(self) -> None:
        if not isinstance(self.limit, int):
            raise TypeError(f"Restart(limit=...) must be a whole number, not {self.limit!r}")
        if not all(0 <= seconds < math.inf for seconds in (self.quiet, self.delay, self.longest)):
            raise ValueError("Restart(): quiet, delay and longest must be seconds, not negative, and finite")
        if self.limit < 1:
            raise ValueError("Restart(limit=...) must be at least 1; for none, leave restart_policy None")


@dataclass(frozen=True)
class DeadLetter:
    """A message that was told, not asked, and will not be handled: `message`, `actor_ref`, and `reason`.

    That is "stopped": the actor did before it came to it; "full": its mailbox was; "expired": its deadline had passed.
    """

    message: Any
    actor_ref: ActorRef[Any]
    reason: Literal["stopped", "full", "expired"]


def start_pool(
    actor_class: type[A],
    size: int,
    *args: Any,
    routing: Literal["round_robin", "random", "least_waiting"] = "round_robin",
    **kwargs: Any,
) -> ActorRef[A]:
    """Start several actors with these arguments; return one reference, which sends each message to one of them.

    To stop it stops all. If one of them fails for good, all stop; if one is stopped, the others go on. See
    pool_worker() for messages that must go to the same one.
    """
    from weft.actor._pool import Pool

    if not isinstance(size, int):
        raise TypeError(f"start_pool(): the size must be a whole number, not {size!r}")
    if size < 1:
        raise ValueError("start_pool(): a pool needs at least one actor")
    return Pool.start_with(actor_class, size, args, kwargs, routing)


def pool_workers(actor_ref: ActorRef[A]) -> list[ActorRef[A]]:
    """Return the actors of a pool that live, oldest first; of another actor, itself."""
    return _weft._pool_workers(actor_ref)


def pool_worker(actor_ref: ActorRef[A], key: Hashable) -> ActorRef[A]:
    """Return the actor of a pool that has that key: the same each time, until it is to stop.

    When one ends, only its keys move to others. Of another actor, itself. Raise ActorDeadError if there is none.
    """
    return _weft._pool_worker(actor_ref, key)


def set_dead_letter_handler(handler: Callable[[DeadLetter], object] | None) -> Callable[[DeadLetter], object] | None:
    """Have handler(letter) called for each message that was told, not asked, and will not be handled; return the former
    one.

    It is called on any thread, and must not wait; an actor's tell() will do. A DeadLetter that is not handled in turn is
    dropped. What it raises is reported as of an object's `__del__()`.
    """
    return _weft._set_dead_letter_handler(handler)
