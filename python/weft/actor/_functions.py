"""Functions about actors and futures."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

from weft import _weft
from weft.actor._names import ActorRef, Future

T = TypeVar("T")


def get_all(futures: Iterable[Future[T]], *, timeout: float | None = None) -> list[T]:
    """Return the values of the futures. Raise weft.actor.Timeout if one has none after `timeout` seconds."""
    return [future.get(timeout=timeout) for future in futures]


def traversable(obj: T) -> T:
    """Have proxies reach into an attribute of an actor: its methods run in the actor. Also a class decorator."""
    if hasattr(obj, "__slots__"):
        raise ValueError(
            "weft.actor.traversable() cannot be used to mark an object using slots as traversable: "
            "give its class an attribute pykka_traversable = True"
        )
    obj._pykka_traversable = True  # type: ignore[attr-defined]
    return obj


def find(urn_or_name: str) -> ActorRef[Any] | None:
    """Return the actor of this process that has that URN, or, the oldest one, that name; or None.

    Also actors that are not Python's, such as `weft::Actor` in C++, which the registry does not list. Their name is
    that which they were started with; a Python actor's is that of its class.
    """
    return _weft._find_actor(urn_or_name, by_name=True)


class Statistics(NamedTuple):
    """What an actor has done so far."""

    waiting: int  # messages in its mailbox
    handled: int
    failed: int  # of those: whose exception nobody got as an answer
    refused: int  # dropped by a full mailbox, or left when it stopped
    busy: float  # seconds in handlers
    restarted: int  # how often it was made anew


def statistics(actor_ref: ActorRef[Any]) -> Statistics:
    """Return what the actor has done so far; of a pool, the sums of all that it had."""
    return Statistics(*_weft._actor_statistics(actor_ref))


def install_as_pykka() -> None:
    """Have `import pykka` give this package: for a program that cannot be changed. Before its first import."""
    import weft.actor._envelope
    import weft.actor.debug
    import weft.actor.messages
    import weft.actor.typing

    present = sys.modules.get("pykka")
    if present is not None and present is not weft.actor:
        raise RuntimeError("install_as_pykka() comes too late: pykka has been imported")
    sys.modules["pykka"] = weft.actor
    for name in ("_envelope", "debug", "messages", "typing"):
        sys.modules[f"pykka.{name}"] = sys.modules[f"weft.actor.{name}"]
