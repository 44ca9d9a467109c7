"""Actor, ThreadingActor and ActorRegistry."""

from __future__ import annotations

import abc
import atexit
import contextlib
import itertools
import logging
import os
import sys
import threading
from types import TracebackType
from typing import Any, ClassVar, Literal, TypeVar

from weft import _weft
from weft.actor._exceptions import ActorDeadError
from weft.actor._names import ActorRef, Dispatcher, Future
from weft.actor._supervision import Restart

logger = logging.getLogger("weft.actor")

A = TypeVar("A", bound="Actor")

_numbers = itertools.count()


class Actor(abc.ABC):
    """An object whose methods run one at a time, in a fiber of its own, as messages to it come.

    Subclass it and call `start()`. It may be one base of several: `__init__()` need not be called, and the hooks
    call those of the next class.
    """

    use_daemon_thread: ClassVar[bool] = False
    """False: the program does not end before the actor has stopped."""

    mailbox_size: ClassVar[int | None] = None
    """How many messages may wait; None: any number. Set it in the class."""

    mailbox_policy: ClassVar[Literal["block", "drop", "raise"]] = "block"
    """What sending does when so many wait: wait for room, drop the message, or raise MailboxFull."""

    message_isolation: ClassVar[Literal["share", "copy", "freeze"]] = "share"
    """What becomes of messages and answers: handed over as they are, copied by copy.deepcopy(), or made unchangeable:
    lists become tuples, dictionaries mapping proxies, sets frozensets. What cannot be is refused with TypeError."""

    restart_policy: ClassVar[Restart | None] = None
    """Whether it is made anew when it fails. None: it stops."""

    actor_dispatcher: ClassVar[Dispatcher | Literal["fiber", "thread"]] = "fiber"
    """What it runs on: a fiber of its own; an OS thread of its own, also where `threading` is patched; or workers that
    many share."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        """Called by start() where start() is called, with what that is given. The actor exists, and does not run."""

    @classmethod
    def start(cls: type[A], *args: Any, **kwargs: Any) -> ActorRef[A]:
        """Make an actor with these arguments, have it run, and return a reference to it.

        Raise what `__init__()` raises; MemoryError if there is no memory for its fiber. What `on_start()` raises is
        logged, and a failure of the actor: see `restart_policy`.
        """
        return cls._start(None, args, kwargs)

    @classmethod
    def _start(
        cls: type[A], parent: ActorRef[Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ActorRef[A]:
        policy = cls.restart_policy
        if policy is not None and not isinstance(policy, Restart):
            raise TypeError(f"restart_policy must be a weft.actor.Restart, or None, not {policy!r}")
        actor = cls(*args, **kwargs)
        ref = actor.actor_ref
        if policy is not None:
            _weft._set_actor_restart(ref, policy.limit, policy.quiet, policy.delay, policy.longest)
        if parent is not None:
            _weft._set_actor_parent(ref, parent)
        try:
            ActorRegistry.register(ref)
            if logger.isEnabledFor(logging.DEBUG):
                logger.debug("Starting %s", actor)
            _weft._hold_actor(ref, args if policy else None, kwargs if policy else None)
            actor._start_actor_loop(f"{cls.__name__}-{next(_numbers)}")
        except BaseException:
            _weft._abandon_actor(ref)
            raise
        return ref

    def start_child(self, actor_class: type[A], *args: Any, **kwargs: Any) -> ActorRef[A]:
        """Start an actor that this one supervises; return a reference to it. Only in the actor itself.

        It is asked to stop when this one stops or is made anew, and this one has stopped only when it has. If it fails
        for good, `on_child_failure()` is called. Raise what `start()` raises, RuntimeError where another calls it.
        """
        return checked_class(actor_class)._start(self.actor_ref, args, kwargs)

    def _start_actor_loop(self, name: str) -> None:
        _wait_at_exit()
        _weft._start_actor(self.actor_ref, name, self.use_daemon_thread, self.actor_dispatcher)

    @property
    def actor_ref(self: A) -> ActorRef[A]:
        """The actor's ActorRef, to be handed out instead of the actor itself."""
        attributes = vars(self)
        ref: ActorRef[A] | None = attributes.get("_actor_ref")
        if ref is None:  # here and not in a constructor, which the other bases may not call
            cell = _weft._make_actor(self, self.mailbox_size, self.mailbox_policy, self.message_isolation)
            ref = attributes["_actor_ref"] = cell.reference()
            attributes["_actor_cell"] = cell
        return ref

    @property
    def actor_urn(self) -> str:
        """See ActorRef.actor_urn."""
        return self.actor_ref.actor_urn

    @property
    def actor_inbox(self) -> _weft._Inbox:
        """See ActorRef.actor_inbox."""
        return self.actor_ref.actor_inbox

    @property
    def actor_stopped(self) -> _weft._StoppedEvent:
        """See ActorRef.actor_stopped."""
        return self.actor_ref.actor_stopped

    def __str__(self) -> str:
        return str(self.actor_ref)

    def stop(self) -> None:
        """Have it stop once it has handled what was sent to it before."""
        self.actor_ref.stop(block=False)

    def on_start(self) -> None:
        """Called in the actor before the first message. What it raises is logged, and a failure."""
        _call_next(self, "on_start")

    def on_stop(self) -> None:
        """Called in the actor when it was asked to stop, after the last message. What it raises is logged."""
        _call_next(self, "on_stop")

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Called in the actor, and not on_stop(), when a message failed with an exception that nobody gets.

        The actor stops, or is made anew: see `restart_policy`.
        """
        _call_next(self, "on_failure", exception_type, exception_value, traceback)

    def on_child_failure(self, child: ActorRef[Any], exception: BaseException) -> None:
        """Called in the actor when one that it started by `start_child()` has stopped because of that exception.

        What it raises is a failure of this actor. Unless it is overridden, it raises the exception.
        """
        try:
            raise exception
        finally:
            del exception  # its traceback has this frame

    def on_receive(self, message: Any) -> Any:
        """Called in the actor with each message that is not a proxy's. What it returns is the answer."""
        following = getattr(super(), "on_receive", None)
        if following is not None:
            return following(message)
        logger.warning("Unexpected message received by %s: %s", self, message)
        return None


def checked_class(actor_class: type[A]) -> type[A]:
    if not (isinstance(actor_class, type) and issubclass(actor_class, Actor)):
        raise TypeError(f"a class of actors is needed, not {actor_class!r}")
    return actor_class


# Classes after Actor in the order of bases may have the same hook.
def _call_next(actor: Actor, hook: str, *args: Any) -> None:
    following = getattr(super(Actor, actor), hook, None)
    if following is not None:
        following(*args)


class ThreadingActor(Actor):
    """An actor that runs on a `threading.Thread`: an OS thread, or a fiber after weft.patch() and under `weft run`.

    For handlers that make blocking calls in a program that is not patched.
    """

    def _start_actor_loop(self, name: str) -> None:
        threading.Thread(
            target=_weft._run_actor, args=(self.actor_ref,), name=name, daemon=self.use_daemon_thread
        ).start()


class ActorRegistry:
    """All actors of Python that have been started and have not stopped, oldest first. Any thread or fiber."""

    @classmethod
    def broadcast(cls, message: Any, target_class: str | type[Actor] | None = None) -> None:
        """Tell all actors, or those of a class or of the class of that name, a message."""
        if isinstance(target_class, str):
            targets = cls.get_by_class_name(target_class)
        elif target_class is not None:
            targets = cls.get_by_class(target_class)
        else:
            targets = cls.get_all()
        for ref in targets:
            with contextlib.suppress(ActorDeadError):
                ref.tell(message)

    @classmethod
    def get_all(cls) -> list[ActorRef[Any]]:
        """Return all of them; of a pool, its actors and not what stands for it."""
        return _weft._registered_actors()

    @classmethod
    def get_by_class(cls, actor_class: type[A]) -> list[ActorRef[A]]:
        """Return those of a class or of its subclasses."""
        return [ref for ref in cls.get_all() if issubclass(ref.actor_class, actor_class)]

    @classmethod
    def get_by_class_name(cls, actor_class_name: str) -> list[ActorRef[Any]]:
        """Return those of the class of that name."""
        return [ref for ref in cls.get_all() if ref.actor_class.__name__ == actor_class_name]

    @classmethod
    def get_by_urn(cls, actor_urn: str) -> ActorRef[Any] | None:
        """Return the one with that URN, or None. Also of an actor that is not Python's."""
        return _weft._find_actor(actor_urn)

    @classmethod
    def register(cls, actor_ref: ActorRef[Any]) -> None:
        """Put an actor into the registry, at the end. Actor.start() does it."""
        if _weft._register_actor(actor_ref) and logger.isEnabledFor(logging.DEBUG):
            logger.debug("Registered %s", actor_ref)

    @classmethod
    def unregister(cls, actor_ref: ActorRef[Any]) -> None:
        """Take an actor out of the registry; it runs on. Done when it stops."""
        found = _weft._unregister_actor(actor_ref)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("Unregistered %s%s", actor_ref, "" if found else " (not found in registry)")

    @classmethod
    def stop_all(cls, *, block: bool = True, timeout: float | None = None) -> list[bool] | list[Future[bool]]:
        """Stop all, newest first, one after the other if `block`; return what ActorRef.stop() does for each."""
        return [ref.stop(block=block, timeout=timeout) for ref in reversed(cls.get_all())]


# Before all other functions for that, so it is called after them.
atexit.register(_weft._retire_actors)

_waits_at_exit = False


# As the program does not end before its threads have, so with these actors, unless they are daemons.
def _wait_at_exit() -> None:
    global _waits_at_exit
    if not _waits_at_exit:
        _waits_at_exit = True
        threading._register_atexit(_end)  # type: ignore[attr-defined]


def _end() -> None:
    _weft._wait_for_actors()
    office = sys.modules.get("weft.actor._office")
    if office is not None:  # who asked from another process is to get the last answers
        office.flush()


# References to this process's actors are to work in the child. That is another process, so it needs an office, and the
# key that opens it: a process that has no actors pays nothing for that.
def _before_fork() -> None:
    if _weft._actor_count():
        from weft.actor import _office

        _office.before_fork()


def _after_fork_in_parent() -> None:
    office = sys.modules.get("weft.actor._office")
    if office is not None:
        office.after_fork_in_parent()


def _after_fork_in_child() -> None:
    lost = _weft._forget_actors()
    office = sys.modules.get("weft.actor._office")
    if office is not None:
        office.after_fork_in_child(lost)


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
