"""A connection to another process, whoever of the two made it: questions and answers, both ways."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import pickle
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from multiprocessing import AuthenticationError
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from weft import _weft
from weft.actor import _requests, _wire
from weft.actor._exceptions import ActorDeadError, MailboxFull, RemoteError
from weft.actor._names import ActorRef, Future, ThreadingFuture

if TYPE_CHECKING:
    from weft.actor._office import Office

logger = logging.getLogger("weft.actor")

T = TypeVar("T")

HANDSHAKE = 20.0
"""Seconds that a peer has to connect and to show that it has the key."""

# The owner of a mailbox says whether there was room in time. If it says nothing for so long after that, it stands still.
_GRACE = 1.0
# How long a message for a full mailbox waits before it is looked whether it is still wanted.
_LOOK = 0.01
_VERSION = 1
_BATCH = 64

# What frames are; their headers are tuples that begin with one of these.
_HELLO, _DELIVER, _TAKEN, _REQUEST, _ANSWER, _CANCEL, _GONE = range(7)


class Message(NamedTuple):
    """One for an actor's mailbox."""

    ref: ActorRef[Any]
    number: int  # of the question; 0: who sent it waits for nothing
    asked: bool
    kind: int  # as of PyMessage in the extension module
    content: Any
    arguments: Any
    keywords: Any
    urgent: bool
    acknowledged: bool  # who sent it waits until it is in the mailbox
    until: float | None
    deadline: float | None


class Outbox:
    """What is to be sent. One thread takes it.

    No queue.SimpleQueue: whoever waits for a lock when the interpreter ends is unwound by it, in a patched program
    through functions that must not be. What waits for a future is not.
    """

    def __init__(self) -> None:
        self._items: deque[_wire.Frame | threading.Event | None] = deque()
        self._bell: ThreadingFuture[None] = ThreadingFuture()

    def put(self, item: _wire.Frame | threading.Event | None) -> None:
        """Never waits. An Event is set when what came before it is out; None is the last."""
        self._items.append(item)
        self._bell._settle(None)

    def take(self) -> list[_wire.Frame | threading.Event | None]:
        """Wait until something is there."""
        while not self._items:
            bell: ThreadingFuture[None] = ThreadingFuture()
            self._bell = bell
            if not self._items:  # who puts now finds the new bell
                bell.get()
        items: list[_wire.Frame | threading.Event | None] = []
        with contextlib.suppress(IndexError):
            while len(items) < _BATCH:
                items.append(self._items.popleft())
        return items

    def drop(self) -> None:
        """Let it all go, but for what ends the thread that takes."""
        last = False
        with contextlib.suppress(IndexError):
            while True:
                item = self._items.popleft()
                last = last or item is None
                if isinstance(item, tuple):
                    _wire.close_all(item[2])
                elif item is not None:
                    item.set()
        if last:
            self.put(None)


class Question:
    """What the other process was asked. `on_answer` gets its answer, or why there is none, instead of the future."""

    __slots__ = ("future", "on_answer", "taken")

    def __init__(self, future: Future[Any], on_answer: Callable[[Any, BaseException | None], object] | None) -> None:
        self.future = future
        self.taken: Future[bool] | None = None  # is it in the mailbox?
        self.on_answer = on_answer

    def settle(self, value: Any, error: BaseException | None) -> None:
        if self.on_answer is not None:
            self.on_answer(value, error)
        elif error is not None:
            self.future._settle_error(error)
        else:
            self.future._settle(value)
        if self.taken is not None:
            self.taken._settle(False)


class Link:
    """Made at once; a thread of its own connects it. All methods may be called by any thread or fiber, and none but
    wait_until_ready() waits."""

    def __init__(
        self, office: Office, authkey: bytes, *, address: str, accepted: socket.socket | None = None, served: Any = None
    ) -> None:
        self.office = office
        self.address = address  # of the other process's office; "" until it has told it
        self.name = "another process"
        self.served = served  # the ActorRef that whoever connected wants
        self.ready: ThreadingFuture[None] = ThreadingFuture()
        self.error: BaseException | None = None  # why it has ended
        self.closed = threading.Event()
        self.wire: _wire.Wire | None = _wire.Wire(accepted) if accepted is not None else None
        self.waits: dict[int, Callable[[], object]] = {}  # what ends the waits that the other process asked for
        self.timers: dict[int, tuple[Any, float]] = {}
        self.channels: dict[bytes, list[Any]] = {}  # that the other process has ends of, and how many it was sent
        self._authkey = authkey
        self._accepted = accepted is not None
        self._out = Outbox()
        self._numbers = itertools.count(1)
        self._asked: dict[int, Question] = {}
        self._answering: dict[int, Future[Any]] = {}
        self._actors: dict[bytes, ActorRef[Any]] = {}
        self._crowded: dict[bytes, deque[Message]] = {}  # messages for mailboxes that are full
        self._crowding = threading.Lock()  # guards which is there; only threads of the link take it
        self._revoked: set[int] = set()  # of those, what is not wanted any more
        office.all_links.add(self)
        try:
            _weft._start_os_thread("weft-office", self._run)
        except BaseException as error:
            self._end(error)
            raise

    # --- Its threads.

    def _run(self) -> None:
        error: BaseException = _wire.Broken("it has been given up")
        try:
            self._connect()
            assert self.wire is not None
            while True:
                header, body, descriptors = self.wire.receive()
                self._dispatch(pickle.loads(header), body, descriptors)
        except (AuthenticationError, _wire.Broken, OSError) as why:
            error = why
        except BaseException as why:
            error = why
            logger.exception("The connection with %s ends", self.name)
        finally:
            self._end(error)

    def _connect(self) -> None:
        if self.wire is None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.wire = _wire.Wire(sock)
            sock.settimeout(HANDSHAKE)  # where nobody accepts, connecting waits
            sock.connect(self.address)
        self.wire.authenticate(self._authkey, HANDSHAKE, accepted=self._accepted)
        self.wire.send([(pickle.dumps((_HELLO, _VERSION, self.office.address, os.getpid())), b"", [])])
        header, _, descriptors = self.wire.receive()
        _wire.close_all(descriptors)
        what, version, address, pid = pickle.loads(header)[:4]
        if what != _HELLO or version != _VERSION:
            raise _wire.Broken("the other process has another version of Weft")
        self.name = f"process {pid}"
        self.office.introduce(self, address)
        _weft._start_os_thread("weft-office", partial(self._write, self.wire))
        self.ready._settle(None)

    def _write(self, wire: _wire.Wire) -> None:
        while True:
            items = self._out.take()
            with contextlib.suppress(OSError):  # who reads is told, too
                wire.send([item for item in items if isinstance(item, tuple)])
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()
            if None in items:
                wire.close()
                self._leave()
                return

    def _end(self, error: BaseException) -> None:
        started = self.ready.done()
        self.error = error
        if self.wire is not None:
            self.wire.shut()
            if not started:
                self.wire.close()
        self.office.forget(self)
        self._out.put(None)
        if not started:
            self._out.drop()
            self._leave()
        self.ready._settle_error(self.dead())
        while self._asked:
            _, question = self._asked.popitem()
            with contextlib.suppress(BaseException):
                question.settle(None, self.dead())
        # For the other process nothing more is done that nobody has begun.
        self._crowded.clear()
        self._actors.clear()
        self.channels.clear()
        for end in list(self.waits.values()):
            end()
        for timer, _ in self.timers.values():
            timer.cancel()
        self.timers.clear()

    # Its descriptors are closed.
    def _leave(self) -> None:
        self.office.all_links.discard(self)
        self.closed.set()

    def dead(self, whom: str = "") -> ActorDeadError:
        """What asking it raises once it has ended."""
        reason = self.error
        if isinstance(reason, OSError) and reason.errno in (errno.ECONNREFUSED, errno.ENOENT, errno.ECONNRESET):
            text = "it has ended"
        elif isinstance(reason, AuthenticationError):
            text = "it has another authkey"
        else:
            text = str(reason)
        error = ActorDeadError(f"{whom + ': ' if whom else ''}{self.name} cannot be reached: {text}")
        error.__cause__ = reason
        return error

    def shut(self) -> None:
        """Close it. What was asked is answered with ActorDeadError."""
        if self.wire is not None:
            self.wire.shut()

    def forsake(self) -> None:
        """In a fork child, whose parent's it is. The parent's threads may be at it: only what cannot wait is done."""
        self.error = _wire.Broken("it belongs to the parent of this process")
        if self.wire is not None:
            self.wire.close()
        for question in list(self._asked.values()):
            question.settle(None, ActorDeadError("who waits for the answer did not survive the fork of this process"))

    def flush(self, seconds: float) -> None:
        """Wait until what was sent is out, for so long at most."""
        if self.error is None and self.ready.done():
            out = threading.Event()
            self._out.put(out)
            out.wait(seconds)

    # --- What this process asks.

    def _send(self, header: tuple[Any, ...], body: bytes = b"", descriptors: list[int] | None = None) -> None:
        self._out.put((pickle.dumps(header), body, descriptors or []))
        if self.error is not None:
            self._out.drop()

    def wait_until_ready(self, seconds: float | None = None) -> None:
        """Raise what it ended with, if it has: ActorDeadError. A cancellation point."""
        if self.error is not None:
            raise self.dead()
        if not self.ready.done():
            self.ready.get(timeout=seconds)

    def _enter(self, question: Question) -> int:
        number = next(self._numbers)
        self._asked[number] = question
        return number

    # After what was asked has been sent: whoever ends the link either saw the question, or is seen here.
    def _watch(self, number: int, question: Question) -> None:
        if self.error is not None and self._asked.pop(number, None) is not None:
            question.settle(None, self.dead())
        elif question.on_answer is None:
            question.future._add_done_callback(partial(self._give_up, number))

    def _give_up(self, number: int) -> None:
        if self._asked.pop(number, None) is not None:  # it was set otherwise: cancelled
            self.cancel(number)

    def cancel(self, number: int) -> None:
        """Have the other process end what that question began."""
        self._send((_CANCEL, number))

    def request(
        self,
        name: str,
        *arguments: Any,
        whom: str = "another process",
        on_answer: Callable[[Any, BaseException | None], object] | None = None,
    ) -> tuple[int, Future[Any]]:
        """Ask for one of _requests.TABLE."""
        body, descriptors = _wire.dump_message(arguments, whom, self)
        question = Question(ThreadingFuture(), on_answer)
        number = self._enter(question)
        self._send((_REQUEST, number, name), body, descriptors)
        self._watch(number, question)
        return number, question.future

    def ask_for(self, name: str, *arguments: Any, timeout: float | None = None) -> Any:
        """The same, and wait for the answer."""
        return self.request(name, *arguments)[1].get(timeout=timeout)

    def deliver(
        self,
        uuid: bytes,
        parts: tuple[int, Any, Any, Any],
        reply: Future[Any] | None,
        *,
        whom: str,
        urgent: bool,
        until: float | None,
        deadline: float | None,
        acknowledged: bool,
    ) -> None:
        """Put a message into an actor's mailbox. `until`: how long to wait for room; it and `deadline` as of
        time.monotonic()."""
        body, descriptors = _wire.dump_message(parts[1:], whom, self)
        number = 0
        question = Question(reply if reply is not None else ThreadingFuture(), None)
        if reply is not None or acknowledged:
            if acknowledged:
                question.taken = ThreadingFuture()
            number = self._enter(question)
        header = (_DELIVER, number, uuid, reply is not None, parts[0], urgent, acknowledged, until, deadline)
        self._send(header, body, descriptors)
        if number:
            self._watch(number, question)
        if question.taken is None:
            return
        try:
            taken = question.taken.get(timeout=None if until is None else max(0.0, until - time.monotonic()) + _GRACE)
        except BaseException as error:
            self._give_up(number)
            if isinstance(error, TimeoutError) and until is not None and time.monotonic() >= until:
                raise MailboxFull(f"the mailbox of {whom} is full") from None
            raise
        if reply is None:
            self._asked.pop(number, None)
        if not taken:
            question.future.get()  # raises

    # --- What the other process asks.

    def _dispatch(self, header: tuple[Any, ...], body: bytes, descriptors: list[int]) -> None:
        what, number = header[:2]
        if what == _DELIVER:
            self._received(body, descriptors, *header[1:])
            return
        if what == _ANSWER:
            self._answered(number, header[2], body, descriptors)
            return
        if what == _REQUEST:
            self._requested(number, header[2], body, descriptors)
            return
        _wire.close_all(descriptors)
        if what == _TAKEN:
            if (question := self._asked.get(number)) is not None and question.taken is not None:
                question.taken._settle(True)
        elif what == _CANCEL:
            self._cancelled(number)
        elif what == _GONE:
            self.office.gone(self.address, number)

    def _answered(self, number: int, succeeded: bool, body: bytes, descriptors: list[int]) -> None:
        question = self._asked.pop(number, None)
        value, error = None, None
        if not succeeded:
            error = _wire.load_error(body, descriptors, self)
        else:
            try:  # also for who does not wait any more: it may have to be given back
                value = _wire.loads(body, descriptors, self)
            except BaseException as why:
                error = _unpicklable("the answer", why)
        if question is not None:
            question.settle(value, error)

    def actor(self, uuid: bytes) -> ActorRef[Any]:
        """The actor of this process that the other one means. Raise ActorDeadError."""
        ref = self._actors.get(uuid)
        if ref is None:
            ref = self.office.find(uuid)
            if ref is None:
                self._send((_GONE, uuid))
                raise ActorDeadError("the actor has stopped")
            self._actors[uuid] = ref
            _weft._watch_actor(ref, partial(self._actor_ended, uuid))
        return ref

    def _actor_ended(self, uuid: bytes) -> None:
        self._actors.pop(uuid, None)
        if self.error is None:
            self._send((_GONE, uuid))

    def _received(
        self,
        body: bytes,
        descriptors: list[int],
        number: int,
        uuid: bytes,
        asked: bool,
        kind: int,
        urgent: bool,
        acknowledged: bool,
        until: float | None,
        deadline: float | None,
    ) -> None:
        try:
            content, arguments, keywords = _wire.loads(body, descriptors, self)
        except BaseException as why:
            if number:
                self.answer(number, error=_unpicklable("the message", why))
            else:
                logger.error("A message from %s cannot be unpickled", self.name, exc_info=why)
            return
        try:
            ref = self.actor(uuid)
        except ActorDeadError as error:
            if number:
                self.answer(number, error=error)
            return
        message = Message(
            ref, number, asked, kind, content, arguments, keywords, urgent, acknowledged, until, deadline
        )
        if not urgent:
            with self._crowding:
                waiting = self._crowded.get(uuid)
                if waiting is not None:
                    waiting.append(message)
                    return
        if not self._hand_in(message, 0.0):
            self._crowded[uuid] = deque([message])
            _weft._start_os_thread("weft-office", partial(self._wait_for_room, uuid))

    # False: there is no room, and there may be later.
    def _hand_in(self, message: Message, seconds: float) -> bool:
        ref, number = message.ref, message.number
        try:
            future = _weft._hand_in(
                ref,
                message.kind,
                message.content,
                message.arguments,
                message.keywords,
                message.asked,
                seconds,
                message.urgent,
                message.deadline,
            )
        except MailboxFull as error:
            late = message.until is not None and time.monotonic() >= message.until
            if _weft._actor_blocks_when_full(ref) and not late:
                return False
            self.answer(number, error=error)
        except BaseException as error:
            if number:
                self.answer(number, error=error)
        else:
            if message.acknowledged:
                self._send((_TAKEN, number))
            if future is not None:
                self._answering[number] = future
                future._add_done_callback(partial(self._answer_of, number, future))
        return True

    # A thread of its own, while the mailbox is full: the messages of this connection, in their order.
    def _wait_for_room(self, uuid: bytes) -> None:
        while (waiting := self._crowded.get(uuid)) is not None:
            message = waiting[0]
            seconds = _LOOK if message.until is None else min(_LOOK, max(0.0, message.until - time.monotonic()))
            if message.number in self._revoked:
                self._revoked.discard(message.number)
            elif not self._hand_in(message, seconds):
                continue
            waiting.popleft()
            with self._crowding:
                if not waiting:
                    self._crowded.pop(uuid, None)

    def _answer_of(self, number: int, future: Future[Any]) -> None:
        if self._answering.pop(number, None) is None or future.cancelled():
            return
        try:
            value = future.get()
        except BaseException as error:
            traceback = error.__traceback__
            self.answer(number, error=error.with_traceback(traceback.tb_next if traceback is not None else None))
        else:
            self.answer(number, value)

    def answer(self, number: int, value: Any = None, *, error: BaseException | None = None) -> None:
        """Answer a question of the other process's."""
        if self.error is not None:
            return
        if error is None:
            try:
                body, descriptors = _wire.dumps(value, self)
            except BaseException as why:
                error = RemoteError(type(why).__name__, f"the answer cannot be pickled: {why}")
        if error is not None:
            body, descriptors = _wire.dump_error(error, self)
        self._send((_ANSWER, number, error is None), body, descriptors)

    def _cancelled(self, number: int) -> None:
        if (future := self._answering.get(number)) is not None:
            future.cancel()
        elif (end := self.waits.get(number)) is not None:
            end()
        else:
            for waiting in list(self._crowded.values()):
                if any(message.number == number for message in list(waiting)):
                    self._revoked.add(number)

    def _requested(self, number: int, name: str, body: bytes, descriptors: list[int]) -> None:
        try:
            arguments = _wire.loads(body, descriptors, self)
        except BaseException as why:
            self.answer(number, error=_unpicklable("what was sent", why))
            return
        try:
            value = _requests.TABLE[name](self, number, *arguments)
        except BaseException as error:
            self.answer(number, error=error)
            return
        if value is not _requests.LATER:
            self.answer(number, value)


def _unpicklable(what: str, why: BaseException) -> RemoteError:
    error = RemoteError(type(why).__name__, f"{what} cannot be unpickled: {why}")
    error.__cause__ = why
    return error
