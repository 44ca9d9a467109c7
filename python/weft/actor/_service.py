"""Actors that processes find that are not each other's children."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import stat
from types import TracebackType
from typing import Any

from weft.actor._exceptions import ActorDeadError
from weft.actor._names import ActorRef

_LONGEST = 107  # of a path, in bytes, as sockaddr_un has it


class Service:
    """What serve() returns: an actor that others can connect() to. A context manager, which closes it."""

    __module__ = "weft.actor"

    def __init__(self, path: str, actor_ref: ActorRef[Any], authkey: bytes | None) -> None:
        from weft.actor import _office

        if not isinstance(actor_ref, ActorRef):
            raise TypeError(f"serve() takes an ActorRef, not {type(actor_ref).__name__}")
        if not actor_ref.is_alive():
            raise ActorDeadError(f"{actor_ref} not found")
        self.path = path
        self._office = _office.present()
        self._process = os.getpid()
        try:
            self._listener = _office.Listener(self._office, path, authkey, actor_ref)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _named(error, path) from None
            if _is_served(path):
                raise OSError(errno.EADDRINUSE, "another process serves an actor there", path) from None
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                text = "there is something that is no socket: give another path, or take it away"
                raise FileExistsError(errno.EEXIST, text, path) from None
            os.unlink(path)  # left by a process that was killed
            self._listener = _office.Listener(self._office, path, authkey, actor_ref)
        self._office.services.add(self._listener)
        self._listener.run()
        _close_at_exit(self)

    def close(self) -> None:
        """Accept no more connections, and take the path away. Those that are there go on. Idempotent."""
        if self._listener in self._office.services and self._process == os.getpid():
            self._office.services.discard(self._listener)
            self._listener.close()
            _open.pop(self, None)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


# CPython's atexit keeps a place for what was unregistered, so that each service would leave eight bytes.
_open: dict[Service, None] = {}
_registered = False


def _close_at_exit(service: Service) -> None:
    global _registered
    _open[service] = None
    if not _registered:
        _registered = True
        atexit.register(_close_all)


def _close_all() -> None:
    for service in reversed(list(_open)):
        with contextlib.suppress(OSError):  # of its path; the others are to be closed all the same
            service.close()


def _checked(path: str | os.PathLike[str], authkey: bytes | None) -> str:
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError(f"authkey must be bytes, or None, not {type(authkey).__name__}")
    name = os.fspath(path)
    if len(os.fsencode(name)) > _LONGEST:
        raise OSError(errno.ENAMETOOLONG, f"the path of a socket has {_LONGEST} bytes at most", name)
    return name


def _named(error: OSError, path: str) -> OSError:
    return OSError(error.errno, error.strerror, path)


def _is_served(path: str) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True


def serve(path: str | os.PathLike[str], actor_ref: ActorRef[Any], *, authkey: bytes | None = None) -> Service:
    """Have other processes find an actor at a path, where they connect() to it with the same key.

    authkey: None: that of multiprocessing, which this process's children have, too. Raise OSError with the path in it:
    another process serves there, the path is too long, cannot be written to, is of something else. The socket of a killed
    process is replaced. ActorDeadError: the actor has stopped.
    """
    return Service(_checked(path, authkey), actor_ref, authkey)


def connect(
    path: str | os.PathLike[str], *, authkey: bytes | None = None, timeout: float | None = None
) -> ActorRef[Any]:
    """Return the actor that a process serves at a path.

    Raise OSError with the path in it if none does, multiprocessing.AuthenticationError if it has another key,
    weft.actor.Timeout after `timeout` seconds, ActorDeadError if it ends meanwhile. A cancellation point.
    """
    from multiprocessing import AuthenticationError

    from weft.actor import _link, _office

    name = _checked(path, authkey)
    link = _link.Link(_office.present(), authkey if authkey is not None else _office.own_key(), address=name)
    try:
        link.wait_until_ready(timeout)
        ref: ActorRef[Any] = link.ask_for("served", timeout=timeout)
    except ActorDeadError as error:
        if isinstance(error.__cause__, AuthenticationError):
            raise AuthenticationError(f"the process that serves {name} has another authkey") from error
        if isinstance(error.__cause__, OSError) and error.__cause__.errno:
            raise _named(error.__cause__, name) from error
        raise
    except BaseException:
        link.shut()
        raise
    if link is not _office.present().link_to(link.address):  # they were connected before
        link.shut()
    return ref
