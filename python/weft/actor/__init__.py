"""Actors: objects that handle messages one at a time, each in a thread of control of its own. Pykka's API.

`Actor` runs on a fiber, `ThreadingActor` on a thread of `threading` (which is a fiber after weft.patch() and under
`weft run`).
"""

from __future__ import annotations

import logging

from weft.actor._actor import Actor, ActorRegistry, ThreadingActor
from weft.actor._ends import ChannelEnd
from weft.actor._exceptions import ActorDeadError, ForeignError, MailboxFull, RemoteError, Timeout
from weft.actor._functions import find, get_all, install_as_pykka, statistics, traversable
from weft.actor._names import (
    ActorProxy,
    ActorRef,
    CallableProxy,
    Dispatcher,
    ForeignActor,
    Future,
    MessageTimer,
    ThreadingFuture,
)
from weft.actor._service import Service, connect, serve
from weft.actor._supervision import (
    DeadLetter,
    Restart,
    pool_worker,
    pool_workers,
    set_dead_letter_handler,
    start_pool,
)

__all__ = [
    "Actor",
    "ActorDeadError",
    "ActorProxy",
    "ActorRef",
    "ActorRegistry",
    "CallableProxy",
    "ChannelEnd",
    "DeadLetter",
    "Dispatcher",
    "ForeignActor",
    "ForeignError",
    "Future",
    "MailboxFull",
    "MessageTimer",
    "RemoteError",
    "Restart",
    "Service",
    "ThreadingActor",
    "ThreadingFuture",
    "Timeout",
    "connect",
    "find",
    "get_all",
    "install_as_pykka",
    "pool_worker",
    "pool_workers",
    "serve",
    "set_dead_letter_handler",
    "start_pool",
    "statistics",
    "traversable",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
