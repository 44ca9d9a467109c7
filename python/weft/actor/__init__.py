"""Actors: objects that handle messages one at a time, each in a thread of control of its own. Pykka's API.

`Actor` runs on a fiber, `ThreadingActor` on a thread of `threading` (which is a fiber after weft.patch() and under
`weft run`).
"""

from __future__ import annotations

import logging

from weft.actor._actor import Actor, ActorRegistry, ThreadingActor
from weft.actor._exceptions import ActorDeadError, MailboxFull, Timeout
from weft.actor._functions import get_all, install_as_pykka, statistics, traversable
from weft.actor._names import ActorProxy, ActorRef, CallableProxy, Future, MessageTimer, ThreadingFuture

__all__ = [
    "Actor",
    "ActorDeadError",
    "ActorProxy",
    "ActorRef",
    "ActorRegistry",
    "CallableProxy",
    "Future",
    "MailboxFull",
    "MessageTimer",
    "ThreadingActor",
    "ThreadingFuture",
    "Timeout",
    "get_all",
    "install_as_pykka",
    "statistics",
    "traversable",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
