"""What other processes may ask of this one beside messages to actors. Called by the thread that reads: whatever waits
returns LATER, and answers from a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from weft import _weft
from weft.actor import _ends
from weft.actor._exceptions import ActorDeadError
from weft.actor._names import ActorProxy, ActorRef

if TYPE_CHECKING:
    from weft.actor._link import Link

LATER = object()


def _alive(link: Link, _number: int, uuid: bytes) -> bool:
    return bool(link.actor(uuid).is_alive())


def _names(link: Link, _number: int, uuid: bytes, path: tuple[str, ...]) -> dict[str, bool | None]:
    return _weft._proxy_names(ActorProxy(actor_ref=link.actor(uuid), attr_path=path))


def _wait_until_begun(link: Link, number: int, uuid: bytes) -> object:
    ref = link.actor(uuid)

    def wait() -> None:
        _weft._wait_until_begun(ref)
        link.answer(number)

    _weft._start_os_thread("weft-office", wait)
    return LATER


def _statistics(link: Link, _number: int, uuid: bytes) -> tuple[int, int, int, int, float, int]:
    return _weft._actor_statistics(link.actor(uuid))


def _mark_stopped(link: Link, _number: int, uuid: bytes) -> None:
    link.actor(uuid).actor_stopped.set()


def _tell_later(
    link: Link, _number: int, uuid: bytes, number: int, seconds: float, again: bool, message: Any
) -> None:
    ref = link.actor(uuid)
    now = time.monotonic()
    for old, (_, due) in list(link.timers.items()):
        if due < now:
            del link.timers[old]
    timer = (ref.tell_every if again else ref.tell_after)(seconds, message)
    link.timers[number] = timer, float("inf") if again else now + seconds + 1


def _cancel_timer(link: Link, _number: int, number: int) -> bool:
    timer, _ = link.timers.pop(number, (None, 0.0))
    return bool(timer is not None and timer.cancel())


def _served(link: Link, _number: int) -> ActorRef[Any]:
    if link.served is None:
        raise ActorDeadError("nothing is served here")
    ref: ActorRef[Any] = link.served
    return ref


TABLE: dict[str, Callable[..., Any]] = {
    **_ends.REQUESTS,
    "alive": _alive,
    "cancel_timer": _cancel_timer,
    "mark_stopped": _mark_stopped,
    "names": _names,
    "served": _served,
    "statistics": _statistics,
    "tell_later": _tell_later,
    "wait_until_begun": _wait_until_begun,
}
