"""Ends of channels in other processes."""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import weft
from weft import _weft
from weft.actor._names import ThreadingFuture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from weft.actor._link import Link

T = TypeVar("T")

# The channel's owner says whether a wait ended in time. If it says nothing for so long after that, it stands still.
_GRACE = 1.0


class ChannelEnd(Generic[T]):
    """A channel of this process or of another; what a pickled Channel becomes in another process.

    Has the methods of a Channel, which wait, raise and can be cancelled as those do, and raise ActorDeadError when the
    process that has the channel has ended. Made by hand, for a fork child that inherits it. select() does not take it.

    An item that was on its way to a process which ends is lost. A send() that is cancelled may have sent its item.
    """

    __module__ = "weft.actor"

    def __init__(self, channel: weft.Channel[T]) -> None:
        if not isinstance(channel, weft.Channel):
            raise TypeError(f"ChannelEnd() takes a weft.Channel, not {type(channel).__name__}")
        address, token = _exports().register(channel)
        self._set(address, token, channel.capacity)
        self._channel: weft.Channel[T] | None = channel

    def _set(self, address: str, token: bytes, capacity: int | None) -> None:
        self._process = os.getpid()
        self._channel = None
        self._address = address
        self._token = token
        self._capacity = capacity
        self._waiting: dict[int, ThreadingFuture[T]] = {}
        self._kept: deque[T] = deque()  # items that came for who had given up
        self._came = [0]  # how often the owner sent it over the connection with it

    @property
    def _here(self) -> weft.Channel[T] | None:
        return self._channel if self._process == os.getpid() else None

    def _link(self) -> Link:
        from weft.actor import _office

        if self._process != os.getpid():  # of the parent, of which this is a fork child
            self._set(self._address, self._token, self._capacity)
        return _office.present().link_to(self._address)

    def _ask(self, name: str, *arguments: Any, timeout: float | None = None) -> Any:
        return self._link().ask_for(name, self._token, *arguments, timeout=timeout)

    def send(self, item: T, timeout: float | None = None) -> None:
        """See Channel.send()."""
        here = self._here
        if here is not None:
            here.send(item, timeout)
            return
        until = None if timeout is None else time.monotonic() + max(0.0, timeout)
        _, future = self._link().request("send", self._token, item, until, whom="a channel")
        try:
            future.get(timeout=_within(until))
        except BaseException:
            future.cancel()
            raise

    def try_send(self, item: T) -> bool:
        """See Channel.try_send()."""
        try:
            self.send(item, 0)
        except weft.Timeout:
            return False
        return True

    def receive(self, timeout: float | None = None) -> T:
        """See Channel.receive()."""
        here = self._here
        if here is not None:
            return here.receive(timeout)
        until = None if timeout is None else time.monotonic() + max(0.0, timeout)
        link = self._link()
        with contextlib.suppress(IndexError):
            return self._kept.popleft()
        answer: ThreadingFuture[T] = ThreadingFuture()
        number, _ = link.request("receive", self._token, until, on_answer=partial(self._arrived, answer))
        self._waiting[number] = answer
        if self._kept:
            self._hand_out()
        try:
            return answer.get(timeout=_within(until))
        except BaseException:
            if answer.cancel():
                link.cancel(number)
            else:
                with contextlib.suppress(Exception):
                    self._keep(answer.get())
            raise
        finally:
            self._waiting.pop(number, None)

    # Called by the thread that reads. What came for one who has given up is for the next who asks.
    def _arrived(self, answer: ThreadingFuture[T], value: T, error: BaseException | None) -> None:
        if error is not None:
            answer._settle_error(error)
        elif not answer._settle(value):
            self._keep(value)

    def _keep(self, item: T) -> None:
        self._kept.append(item)  # before looking who waits; who waits looks here after saying so
        self._hand_out()

    def _hand_out(self) -> None:
        for number, answer in list(self._waiting.items()):
            try:
                item = self._kept.popleft()
            except IndexError:
                return
            if answer._settle(item):
                self._link().cancel(number)
            else:
                self._kept.appendleft(item)

    def try_receive(self, default: Any = None) -> Any:
        """See Channel.try_receive()."""
        try:
            return self.receive(0)
        except weft.Timeout:
            return default

    def close(self) -> bool:
        """See Channel.close()."""
        here = self._here
        closed: bool = self._ask("close") if here is None else here.close()
        return closed

    @property
    def closed(self) -> bool:
        """Has close() been called?"""
        here = self._here
        closed: bool = self._ask("closed") if here is None else here.closed
        return closed

    @property
    def capacity(self) -> int | None:
        """As of the channel."""
        return self._capacity

    def __len__(self) -> int:
        here = self._here
        count: int = self._ask("size") + len(self._kept) if here is None else len(here)
        return count

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            return self.receive()
        except weft.Closed:
            raise StopIteration from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChannelEnd) and (other._address, other._token) == (self._address, self._token)

    def __hash__(self) -> int:
        return hash((self._address, self._token))

    def __repr__(self) -> str:
        return f"<weft.actor.ChannelEnd of a Channel({self._capacity})>"

    def __reduce__(self) -> tuple[Any, ...]:
        here = self._here
        return reduce(here) if here is not None else (restored, (self._address, self._token, self._capacity))


def _within(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic()) + _GRACE


# --- What becomes of pickled channels. The process that has one keeps it as long as it has itself a use for it, or others
# have ends of it: a connection tells how many it has sent, and gets told how many of them are gone.


class Exports:
    """The channels of this process that others may have ends of."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._tokens: weakref.WeakKeyDictionary[weft.Channel[Any], bytes] = weakref.WeakKeyDictionary()
        self._channels: weakref.WeakValueDictionary[bytes, weft.Channel[Any]] = weakref.WeakValueDictionary()
        self._unclaimed: dict[bytes, list[Any]] = {}  # pickled for nobody knows whom: channel, how often

    def register(self, channel: weft.Channel[Any]) -> tuple[str, bytes]:
        token = self._tokens.get(channel)
        if token is None:
            weft.start()  # the threads that wait for others may not start it
            token = self._tokens.setdefault(channel, os.urandom(16))
            self._channels[token] = channel
        return self._address, token

    def sent(self, token: bytes, channel: weft.Channel[Any], link: Link | None) -> None:
        """An end is on its way."""
        kept = self._unclaimed if link is None else link.channels
        kept.setdefault(token, [channel, 0])[1] += 1

    def find(self, token: bytes, link: Link | None) -> weft.Channel[Any] | None:
        if link is not None and token in link.channels:
            channel: weft.Channel[Any] = link.channels[token][0]
            return channel
        return self._channels.get(token)

    def claim(self, token: bytes, link: Link | None) -> weft.Channel[Any] | None:
        """One that was pickled for nobody knows whom has come to that process; None: to this one."""
        channel = self.find(token, link)
        unclaimed = self._unclaimed.get(token)
        if unclaimed is not None:
            unclaimed[1] -= 1
            if unclaimed[1] == 0:
                del self._unclaimed[token]
        if channel is not None and link is not None:
            link.channels.setdefault(token, [channel, 0])[1] += 1
        return channel


def _exports() -> Exports:
    from weft.actor import _office

    office = _office.present()
    office.open()
    if office.exports is None:
        office.exports = Exports(office.address)
    return office.exports


def reduce(channel: weft.Channel[Any]) -> tuple[Any, ...]:
    """Channel.__reduce__."""
    from weft.actor import _wire

    exports = _exports()
    address, token = exports.register(channel)
    exports.sent(token, channel, _wire.receiving_link())
    return restored, (address, token, channel.capacity)


_ends: weakref.WeakValueDictionary[tuple[str, bytes], ChannelEnd[Any]] = weakref.WeakValueDictionary()


def restored(address: str, token: bytes, capacity: int | None) -> Any:
    """What a pickled one becomes: the very channel where it is, else an end of it."""
    from weft.actor import _office, _wire

    office = _office.present()
    if address == office.address:
        return _at_home(token, _wire.current_link())
    end = _ends.get((address, token))
    if end is None or end._process != office.pid:
        end = ChannelEnd.__new__(ChannelEnd)
        end._set(address, token, capacity)
        _ends[address, token] = end
        weakref.finalize(end, _let_go, office.pid, address, token, end._kept, end._came).atexit = False
    end._came[0] += 1
    link = _wire.current_link()
    if link is None or link is not office.link_to(address):
        office.link_to(address).request("claim", token, on_answer=_ignore)
    return end


def _at_home(token: bytes, link: Link | None) -> weft.Channel[Any]:
    exports = _exports()
    channel = exports.find(token, link) if link is not None else exports.claim(token, None)
    if channel is None:  # nobody had a use for it any more
        channel = weft.Channel()
        channel.close()
    return channel


def _ignore(_value: Any, _error: BaseException | None) -> None:
    pass


# Called when an end is no more.
def _let_go(process: int, address: str, token: bytes, kept: deque[Any], came: list[int]) -> None:
    from weft.actor import _office

    link = _office.known_link(address) if process == os.getpid() else None
    if link is None:
        return
    for item in kept:
        link.request("send", token, item, None, on_answer=_ignore)
    link.request("let_go", token, came[0], on_answer=_ignore)


# --- What ends ask for; see _requests.


def _found(link: Link, token: bytes) -> weft.Channel[Any]:
    exports = link.office.exports
    channel = exports.find(token, link) if exports is not None else None
    if channel is None:
        raise weft.Closed("the process that had the channel has let it go")
    return channel


# Waits in a thread of its own, unless it need not wait.
def _wait(link: Link, number: int, until: float | None, case: Any) -> object:
    from weft.actor._requests import LATER

    index, value = weft.select(case, wait=False)
    if index is not None:
        return value
    given_up: weft.Channel[None] = weft.Channel(1)
    link.waits[number] = partial(given_up.try_send, None)

    def wait() -> None:
        try:
            cases = [case, given_up]
            if until is not None:
                cases.append(weft.after(max(0.0, until - time.monotonic())))
            index, value = weft.select(*cases)
            error: BaseException | None = None
            if index == 1:
                error = weft.Cancelled()
            elif index == 2:
                error = weft.Timeout("the channel was not ready in that time")
            link.waits.pop(number, None)
            link.answer(number, value, error=error)
        except BaseException as error:
            link.waits.pop(number, None)
            link.answer(number, error=error)

    _weft._start_os_thread("weft-office", wait)
    return LATER


def _send(link: Link, number: int, token: bytes, item: Any, until: float | None) -> object:
    return _wait(link, number, until, weft.sending(_found(link, token), item))


def _receive(link: Link, number: int, token: bytes, until: float | None) -> object:
    return _wait(link, number, until, _found(link, token))


def _close(link: Link, _number: int, token: bytes) -> bool:
    return _found(link, token).close()


def _closed(link: Link, _number: int, token: bytes) -> bool:
    return _found(link, token).closed


def _size(link: Link, _number: int, token: bytes) -> int:
    return len(_found(link, token))


def _claim(link: Link, _number: int, token: bytes) -> None:
    if link.office.exports is not None:
        link.office.exports.claim(token, link)


def _let_go_of(link: Link, _number: int, token: bytes, count: int) -> None:
    kept = link.channels.get(token)
    if kept is not None:
        kept[1] -= count
        if kept[1] <= 0:
            del link.channels[token]


REQUESTS: dict[str, Callable[..., Any]] = {
    "claim": _claim,
    "close": _close,
    "closed": _closed,
    "let_go": _let_go_of,
    "receive": _receive,
    "send": _send,
    "size": _size,
}
