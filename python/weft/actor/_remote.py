"""Actors of other processes: what an ActorRef is pickled to, and what the extension module calls for one."""

from __future__ import annotations

import contextlib
import importlib
import time
from typing import Any

from weft import _weft
from weft.actor import _office
from weft.actor._actor import Actor
from weft.actor._exceptions import ActorDeadError
from weft.actor._exceptions import Timeout as ActorTimeout
from weft.actor._names import ActorRef, ForeignActor, Future, ThreadingFuture

_STOP = 1  # PyMessage::Kind::kStop


class StandIn:
    """Reaches an actor of another process."""

    def __init__(self, address: str, uuid: bytes, text: str, limited: bool) -> None:
        self.address = address
        self.uuid = uuid
        self.text = text
        self.limited = limited
        self.stopped: ThreadingFuture[None] = ThreadingFuture()  # set once it is known that it has
        if address == _office.present().address:
            self.stopped.set()

    def _link(self) -> Any:
        if self.stopped.done():
            raise ActorDeadError(f"{self.text} not found")
        return _office.present().link_to(self.address)

    def deliver(
        self,
        parts: tuple[int, Any, Any, Any],
        reply: Future[Any] | None,
        urgent: bool,
        until: float | None,
        deadline: float | None,
    ) -> None:
        """ActorRef.tell(), or ask() where there is a `reply`."""
        link = self._link()
        if reply is None:
            link.wait_until_ready(None if until is None else max(0.0, until - time.monotonic()))
        link.deliver(
            self.uuid,
            parts,
            reply,
            whom=self.text,
            urgent=urgent,
            until=until,
            deadline=deadline,
            acknowledged=self.limited and not urgent and parts[0] != _STOP,
        )

    def _ask(self, name: str, *arguments: Any, timeout: float | None = None) -> Any:
        return self._link().ask_for(name, self.uuid, *arguments, timeout=timeout)

    def is_alive(self, timeout: float | None = None) -> bool:
        try:
            alive: bool = self._ask("alive", timeout=timeout)
        except ActorDeadError:
            return False
        return alive

    def wait_stopped(self, timeout: float | None) -> bool:
        end = None if timeout is None else time.monotonic() + timeout
        try:
            if not self.is_alive(timeout):  # from now on the other process tells when it stops
                return True
            self.stopped.get(timeout=None if end is None else max(0.0, end - time.monotonic()))
        except ActorTimeout:
            return False
        return True

    def mark_stopped(self) -> None:
        with contextlib.suppress(ActorDeadError):
            self._ask("mark_stopped")

    def wait_until_begun(self) -> None:
        with contextlib.suppress(ActorDeadError):
            self._ask("wait_until_begun")

    def names(self, path: tuple[str, ...]) -> dict[str, bool | None] | None:
        """What a proxy has to know; None: it has stopped."""
        try:
            names: dict[str, bool | None] = self._ask("names", path)
        except ActorDeadError:
            return None
        return names

    def statistics(self) -> tuple[int, int, int, int, float]:
        try:
            counts: tuple[int, int, int, int, float] = self._ask("statistics")
        except ActorDeadError:
            counts = (0, 0, 0, 0, 0.0)
        return counts

    def tell_later(self, message: Any, seconds: float, again: bool) -> Timer:
        link = self._link()
        number = next(_office.numbers)
        link.request("tell_later", self.uuid, number, seconds, again, message, whom=self.text)[1].get()
        return Timer(link, number)


class Timer:
    """A MessageTimer of another process."""

    def __init__(self, link: Any, number: int) -> None:
        self._link = link
        self._number = number

    def cancel(self) -> bool:
        try:
            ended: bool = self._link.ask_for("cancel_timer", self._number)
        except ActorDeadError:
            return False
        return ended


def reduce(ref: ActorRef[Any]) -> tuple[Any, ...]:
    """ActorRef.__reduce__."""
    of = ref.actor_class
    if of is ForeignActor:
        raise TypeError(f"{ref} is an actor of another language: a reference to it cannot go to another process")
    peer: StandIn | None = _weft._peer_of(ref)
    if peer is not None:
        state = (peer.address, peer.uuid, of.__module__, of.__qualname__, peer.text, peer.limited)
    else:
        office = _office.present()
        limited = _weft._actor_is_limited(ref)
        state = (office.address, office.export(ref), of.__module__, of.__qualname__, str(ref), limited)
    return restored, state


def restored(address: str, uuid: bytes, module: str, name: str, text: str, limited: bool) -> ActorRef[Any]:
    """What a pickled ActorRef becomes: the very one where its actor is, else one that reaches it."""
    office = _office.present()
    if address == office.address:
        here = office.find(uuid)
        if here is not None:
            return here
    peer = _office.stand_in(address, uuid, text, limited)
    return _weft._make_stand_in(_class(module, name), uuid, peer)


# A class that cannot be had here is not needed, either.
def _class(module: str, name: str) -> type:
    found: Any = None
    with contextlib.suppress(Exception):
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    return found if isinstance(found, type) else Actor


