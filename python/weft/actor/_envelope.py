"""A message and where its answer goes."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from weft.actor._names import Future

T = TypeVar("T")


class Envelope(Generic[T]):
    """What `actor_inbox.put()` takes."""

    __slots__ = ("message", "reply_to")

    def __init__(self, message: T, reply_to: Future[Any] | None = None) -> None:
        self.message = message
        self.reply_to = reply_to

    def __repr__(self) -> str:
        return f"Envelope(message={self.message!r}, reply_to={self.reply_to!r})"
