"""Ports that nobody else gets."""

from __future__ import annotations

import socket
from types import TracebackType

__all__ = ["ReservedPort", "listening_socket", "reserve_port"]


class ReservedPort:
    """A free TCP port, held until it is released; `int(port)` is its number.

    A service that sets SO_REUSEADDR, as servers do, can listen there meanwhile; nobody is given the port by the system.
    So there is no moment between choosing and using it in which another test run could take it.
    """

    __module__ = "weft.process"

    def __init__(self, host: str = "127.0.0.1") -> None:
        """OSError: `host` is no address of this machine, or it has no free port."""
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        self._socket = socket.socket(family, kind, protocol)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(address)
        except OSError:
            self._socket.close()
            raise
        self.host = host
        self.number: int = self._socket.getsockname()[1]

    def __int__(self) -> int:
        return self.number

    __index__ = __int__

    def __str__(self) -> str:
        return str(self.number)

    def __repr__(self) -> str:
        return f"<weft.process.ReservedPort {self.number} of {self.host}>"

    def release(self) -> None:
        """Give it back. Idempotent; also done when the object goes."""
        self._socket.close()

    def __enter__(self) -> ReservedPort:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def reserve_port(host: str = "127.0.0.1") -> ReservedPort:
    """A free port of `host`, held until it is released. OSError: see ReservedPort."""
    return ReservedPort(host)


def listening_socket(host: str = "127.0.0.1", port: int = 0, backlog: int = 128) -> socket.socket:
    """A TCP socket that listens already, for an executor's `listen`: who connects waits until the service accepts.

    So nobody else can have its port, and nobody who connects too early is refused. OSError: the port is taken.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(backlog)
    except OSError:
        made.close()
        raise
    return made
