"""What goes between two processes over a Unix socket: the handshake, frames with descriptors, and pickles in them.

Loaded when the first actor or channel is shared: it needs `multiprocessing`.
"""

from __future__ import annotations

import array
import contextlib
import io
import os
import pickle
import socket
import struct
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable
from multiprocessing import connection as mp_connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, cast

from weft.actor._exceptions import RemoteError, RemoteTraceback

# Of a frame: how long header and body are, how long the header is, how many descriptors come with its first byte.
_HEAD = struct.Struct("<QIH")
_LENGTH = struct.Struct("<I")
_MOST_DESCRIPTORS = 253  # the kernel's SCM_MAX_FD
_PIECE = 1 << 16

Frame = tuple[bytes, bytes, list[int]]
"""Header, body, descriptors. Who has it owns those."""


class Broken(Exception):
    """The connection has ended, or what came over it makes no sense."""


def close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


class _Handshake:
    """What multiprocessing's handshake takes for a Connection. What comes is short, and within the limit of time."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._socket = sock
        self._end = time.monotonic() + seconds

    def _remain(self) -> None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the other process did not finish the handshake in time")
        self._socket.settimeout(left)

    def send_bytes(self, data: bytes) -> None:
        self._remain()
        self._socket.sendall(_LENGTH.pack(len(data)) + data)

    def recv_bytes(self, most: int) -> bytes:
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > most:
            raise Broken("no handshake")
        return self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            self._remain()
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise Broken("the other process ended the connection")
            data += piece
        return data


class Wire:
    """A connected socket. One thread reads, one writes."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._read = bytearray()
        self._descriptors: deque[list[int]] = deque()  # as they came; each belongs to one frame

    def authenticate(self, authkey: bytes, seconds: float, *, accepted: bool) -> None:
        """Both sides show that they have the key. Nothing is unpickled before this has returned."""
        shake = cast(Any, _Handshake(self._socket, seconds))
        if accepted:
            mp_connection.deliver_challenge(shake, authkey)
            mp_connection.answer_challenge(shake, authkey)
        else:
            mp_connection.answer_challenge(shake, authkey)
            mp_connection.deliver_challenge(shake, authkey)
        self._socket.settimeout(None)

    def send(self, frames: list[Frame]) -> None:
        """Takes the descriptors, whatever happens."""
        try:
            data = bytearray()
            for header, body, descriptors in frames:
                if descriptors:  # they go with the first byte of what is sent with them
                    self._socket.sendall(data)
                    data.clear()
                head = _HEAD.pack(len(header) + len(body), len(header), len(descriptors))
                if descriptors:
                    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
                    data += head[self._socket.sendmsg([head], [rights]) :]
                else:
                    data += head
                data += header
                if len(body) > _PIECE:
                    self._socket.sendall(data)
                    data.clear()
                    self._socket.sendall(body)
                else:
                    data += body
            self._socket.sendall(data)
        finally:
            for _, _, descriptors in frames:
                close_all(descriptors)

    def receive(self) -> Frame:
        """Wait for the next frame. Raise Broken, or OSError."""
        self._fill(_HEAD.size)
        total, header_length, count = _HEAD.unpack_from(self._read)
        if header_length > total or count > _MOST_DESCRIPTORS:
            raise Broken("what came is no message")
        self._fill(_HEAD.size + total)
        start = _HEAD.size + header_length
        with memoryview(self._read) as view:
            header, body = bytes(view[_HEAD.size : start]), bytes(view[start : _HEAD.size + total])
        del self._read[: _HEAD.size + total]
        descriptors = self._descriptors.popleft() if count else []
        # Some are missing where this process may not open as many.
        return header, body, descriptors + [-1] * (count - len(descriptors))

    def _fill(self, count: int) -> None:
        space = socket.CMSG_SPACE(_MOST_DESCRIPTORS * array.array("i").itemsize)
        while len(self._read) < count:
            wanted = max(_PIECE, min(count - len(self._read), 16 * _PIECE))
            data, control, flags, _ = self._socket.recvmsg(wanted, space, socket.MSG_CMSG_CLOEXEC)
            found = array.array("i")
            for level, kind, rights in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    found.frombytes(rights[: len(rights) - len(rights) % found.itemsize])
            if found or flags & socket.MSG_CTRUNC:
                self._descriptors.append(list(found))
            if not data:
                raise Broken("it has ended, or closed the connection")
            self._read += data

    def shut(self) -> None:
        """Has who reads or writes stop."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()
        while self._descriptors:
            close_all(self._descriptors.popleft())


# --- Pickles.


class _Unpickling(threading.local):
    """What the thread is unpickling from."""

    descriptors: list[int] | None = None
    link: Any = None


_unpickling = _Unpickling()


def current_link() -> Any:
    """The connection that what is unpickled now came over; None: it came some other way."""
    return _unpickling.link


def _take_descriptor(number: int) -> int:
    assert _unpickling.descriptors is not None
    descriptor = _unpickling.descriptors[number]
    if descriptor < 0:
        raise OSError("a descriptor of the message could not be received: this process may not open more of them")
    _unpickling.descriptors[number] = -1
    return descriptor


def _rebuild_socket(number: int, family: int, kind: int, protocol: int) -> socket.socket:
    return socket.socket(family, kind, protocol, fileno=_take_descriptor(number))


def _rebuild_connection(number: int, readable: bool, writable: bool) -> Any:
    return mp_connection.Connection(_take_descriptor(number), readable=readable, writable=writable)


class _Pickling(threading.local):
    link: Any = None


_pickling = _Pickling()


def receiving_link() -> Any:
    """The connection that what is pickled now goes over; None: it goes some other way."""
    return _pickling.link


def dumps(message: object, link: Any) -> tuple[bytes, list[int]]:
    """Pickle it for that connection. Sockets and Connections go along as descriptors, of which the caller gets
    duplicates; what else multiprocessing can pickle with a descriptor, its resource_sharer hands over."""
    descriptors: list[int] = []

    def share(descriptor: int) -> int:
        if len(descriptors) == _MOST_DESCRIPTORS:
            raise pickle.PicklingError(f"a message takes {_MOST_DESCRIPTORS} sockets at most")
        descriptors.append(os.dup(descriptor))
        return len(descriptors) - 1

    file = io.BytesIO()
    pickler: Any = ForkingPickler(file, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table |= {  # its own: each pickler makes one
        socket.socket: lambda s: (_rebuild_socket, (share(s.fileno()), s.family, s.type, s.proto)),
        mp_connection.Connection: lambda c: (_rebuild_connection, (share(c.fileno()), c.readable, c.writable)),
    }
    former, _pickling.link = _pickling.link, link
    try:
        pickler.dump(message)
    except BaseException:
        close_all(descriptors)
        raise
    finally:
        _pickling.link = former
    return file.getvalue(), descriptors


def loads(body: bytes, descriptors: list[int], link: Any) -> Any:
    """Unpickle what came over that connection. Takes the descriptors."""
    former = _unpickling.descriptors, _unpickling.link
    _unpickling.descriptors, _unpickling.link = descriptors, link
    try:
        return pickle.loads(body)
    finally:
        _unpickling.descriptors, _unpickling.link = former
        close_all(descriptors)


def dump_message(message: object, whom: str, link: Any) -> tuple[bytes, list[int]]:
    """The same for what a program sends: raise TypeError or PicklingError that says to whom."""
    try:
        return dumps(message, link)
    except Exception as error:
        kind = TypeError if isinstance(error, TypeError) else pickle.PicklingError
        raise kind(f"what is sent to {whom} cannot be pickled: {error}") from error


def dump_error(error: BaseException, link: Any) -> tuple[bytes, list[int]]:
    """Pickle an exception; what cannot be pickled is described, and becomes a RemoteError."""
    stack = "".join(traceback.format_exception(error)) if error.__traceback__ is not None else ""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be had)"
    pickled: bytes | None = None
    descriptors: list[int] = []
    with contextlib.suppress(Exception):
        pickled, descriptors = dumps(error, link)
    return pickle.dumps((name, text, stack, pickled)), descriptors


def load_error(body: bytes, descriptors: list[int], link: Any) -> BaseException:
    name, text, stack, pickled = pickle.loads(body)
    error: BaseException | None = None
    if pickled is not None:
        with contextlib.suppress(Exception):
            loaded = loads(pickled, descriptors, link)
            if isinstance(loaded, BaseException):
                error = loaded
    if error is None:
        error = RemoteError(name, text, stack)
    if stack:
        error.__cause__ = RemoteTraceback(stack)
    return error
