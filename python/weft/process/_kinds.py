"""Executors by what tells that their command is ready."""

from __future__ import annotations

import os.path
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar
from urllib.parse import ParseResult, urlencode, urlparse

from weft import _weft
from weft._weft import Ready
from weft.process._executor import Executor, SimpleExecutor, seconds_of
from weft.process._ports import ReservedPort

__all__ = [
    "HTTPExecutor",
    "OutputExecutor",
    "PidExecutor",
    "ReadinessExecutor",
    "Ready",
    "TCPExecutor",
    "UnixSocketExecutor",
]

Ready.__module__ = "weft.process"

_TELLING = 0.01  # seconds; what a look saw that had less is of that, and not of the service
_GOOD = r"^2\d\d$"  # statuses
_PROBE = 1.0  # seconds that an answer may take, at first; then as long as has been waited already


class _Probing(Executor):
    """An executor whose place is looked at by a probe: one that says what it saw."""

    __module__ = "weft.process"

    def _limit(self, patience: float | None = None) -> float:
        """Seconds that one look may take: `patience`, else one, then as many as have been waited; not beyond the end."""
        if self._endtime is None:
            return patience or _PROBE
        left = self._endtime - time.monotonic()
        if patience is None:
            patience = max(_PROBE, self._timeout - left) if self._timeout < float("inf") else _PROBE
        return max(0.001, min(left, patience))

    def _look(self, probe: Callable[[float], tuple[bool, str]], patience: float | None = None) -> bool:
        limit = self._limit(patience)
        ready, seen = probe(limit)
        if ready or limit >= _TELLING or not self._seen:
            self._seen = seen
        return ready


class TCPExecutor(_Probing):
    """Ready when something accepts connections at `host` and `port`."""

    __module__ = "weft.process"

    def __init__(self, command: str | Sequence[str], host: str, port: int | ReservedPort, **kwargs: Any) -> None:
        """`kwargs`: those of SimpleExecutor. ValueError: the port is not 1 to 65535, or the host is empty."""
        super().__init__(command, **kwargs)
        if isinstance(port, ReservedPort):
            port = int(port)
        if not isinstance(port, int) or not 0 < port < 65536:
            raise ValueError(f"the port must be a number from 1 to 65535, not {port!r}; weft.process.reserve_port() finds one")
        if not host:
            raise ValueError("the host is empty: give a name or an address, as '127.0.0.1'")
        self.host = host
        self.port: int = port

    def _place(self) -> str:
        return f"port {self.port} of {self.host}"

    def pre_start_check(self) -> bool:
        """Does anything accept connections there?"""
        return self._look(lambda limit: _weft._probe_tcp(self.host, self.port, limit))

    def after_start_check(self) -> bool:
        """The same."""
        return TCPExecutor.pre_start_check(self)

    def _pause(self, waited: float, wait_for: Callable[[], bool]) -> None:
        process = self.process
        asks_the_port = getattr(wait_for, "__func__", None) is Executor.check_subprocess and getattr(
            self.after_start_check, "__func__", None
        ) in (TCPExecutor.after_start_check, HTTPExecutor.after_start_check)
        if process is None or not asks_the_port or process.poll() is not None:
            return super()._pause(waited, wait_for)
        progress = 1 - waited % 1  # it is told once a second
        process._child.await_listener(self.host, self.port, waited, self._sleep, min(progress, self._left()))


class UnixSocketExecutor(_Probing):
    """Ready when something accepts connections at a Unix socket; a name that begins with @ is abstract."""

    __module__ = "weft.process"

    def __init__(self, command: str | Sequence[str], socket_name: str, **kwargs: Any) -> None:
        """`kwargs`: those of SimpleExecutor. ValueError: the path is empty, or longer than a socket's may be."""
        super().__init__(command, **kwargs)
        if not 0 < len(os.fsencode(socket_name)) < 108:
            raise ValueError(f"a socket's path has 1 to 107 bytes: {socket_name!r}")
        self.socket = socket_name

    def _place(self) -> str:
        return f"the socket {self.socket}"

    def pre_start_check(self) -> bool:
        """Does anything accept connections there?"""
        return self._look(lambda limit: _weft._probe_unix(os.fspath(self.socket), limit))

    def after_start_check(self) -> bool:
        """The same."""
        return self.pre_start_check()


class PidExecutor(_Probing):
    """Ready when a file exists."""

    __module__ = "weft.process"

    def __init__(self, command: str | Sequence[str], filename: str, **kwargs: Any) -> None:
        """`kwargs`: those of SimpleExecutor. ValueError: there is no name."""
        super().__init__(command, **kwargs)
        if not filename:
            raise ValueError("filename must be defined: the file that the command makes when it is ready")
        self.filename = filename

    def _place(self) -> str:
        return f"the file {self.filename}"

    def pre_start_check(self) -> bool:
        """Does the file exist?"""
        exists = os.path.isfile(self.filename)
        self._seen = "" if exists else f"there is no file {self.filename}"
        return exists

    def after_start_check(self) -> bool:
        """The same."""
        return self.pre_start_check()


class HTTPExecutor(TCPExecutor):
    """Ready when a request is answered with a status that is looked for."""

    __module__ = "weft.process"

    DEFAULT_PORT: ClassVar[int] = 80
    """Where an http URL has none."""

    def __init__(
        self,
        command: str | Sequence[str],
        url: str,
        status: str | int = _GOOD,
        method: str = "HEAD",
        payload: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        request_timeout: float | None = None,
        *,
        redirects: bool = False,
        verify: bool = True,
        ca_file: str | None = None,
        **kwargs: Any,
    ) -> None:
        """`status`: a number, or a regular expression for its three digits.

        `payload`: sent as a form. `request_timeout`: seconds that one request may take before the next is made (default: one,
        then as many as have been waited already). `redirects`: follow them. `verify`: check a server's certificate (https), by
        `ca_file` or the system's authorities. `kwargs`: those of SimpleExecutor. ValueError: the URL, status or headers are wrong.
        """
        self.url: ParseResult = urlparse(url)
        if self.url.scheme not in ("http", "https"):
            raise ValueError(f"the URL must begin with http:// or https://: {url!r}")
        if not self.url.hostname:
            raise ValueError(f"the URL has no host: {url!r}")
        port = self.url.port  # ValueError for what is no port
        if port is None:
            port = 443 if self.url.scheme == "https" else self.DEFAULT_PORT
        if not isinstance(status, (str, int)):
            raise TypeError(f"status must be a number or a regular expression for it, as 200 or '2..|404', not {status!r}")
        self.status: str = str(status)
        self.status_re: re.Pattern[str] = re.compile(self.status)
        self.method = method
        self.payload = payload
        self.headers = headers
        for name, value in (headers or {}).items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise TypeError(f"headers: name and value must be text, not {name!r}: {value!r}")
        self._request_timeout = seconds_of("request_timeout", request_timeout) or None
        super().__init__(command, host=self.url.hostname, port=port, **kwargs)
        self._redirects, self._verify, self._ca_file = redirects, verify, ca_file
        self._request = self._make_request()

    def _make_request(self) -> _weft._HttpProbe:
        body = urlencode(self.payload) if self.payload else ""
        fields = dict(self.headers or {})
        if body and not any(name.lower() == "content-type" for name in fields):
            fields["Content-Type"] = "application/x-www-form-urlencoded"
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = self.url.netloc.rpartition("@")[0]
        target = (self.url.path or "/") + (f";{self.url.params}" if self.url.params else "")
        target += f"?{self.url.query}" if self.url.query else ""
        return _weft._HttpProbe(
            f"{self.url.scheme}://{user + '@' if user else ''}{host}:{self.port}{target}",
            self.method,
            body,
            list(fields.items()),
            _weft._Pattern(f"^(?:{self.status})".encode(), 0),
            self._redirects,
            self._verify,
            self._ca_file or "",
        )

    def start(self: HTTPExecutorT) -> HTTPExecutorT:
        """As Executor.start(); asks as the attributes say by now."""
        self._request = self._make_request()
        return super().start()

    def after_start_check(self) -> bool:
        """Is a request answered as hoped for?"""
        return self._look(self._ask, self._request_timeout)

    def _ask(self, limit: float) -> tuple[bool, str]:
        ready, seen = self._request.probe(limit)
        if not ready and seen.startswith("HTTP ") and self.status != _GOOD:
            seen += f", but the status is to match {self.status!r}"
        return ready, seen


class ReadinessExecutor(_Probing):
    """Ready when a `Ready` says so: several things at once, all or any, or a function."""

    __module__ = "weft.process"

    def __init__(self, command: str | Sequence[str], ready: Ready, **kwargs: Any) -> None:
        """`ready`: as Ready.all(Ready.tcp("127.0.0.1", 5432), Ready.output("ready to accept")). `kwargs`: those of SimpleExecutor.

        TypeError: it waits for output, and neither stdout nor stderr is a pipe.
        """
        super().__init__(command, **kwargs)
        if not isinstance(ready, Ready):
            raise TypeError(f"ready must be a Ready, as Ready.all(Ready.tcp(...), ...), not {ready!r}")
        if ready.needs_output and not any((self._stdout, self._stderr)):
            raise TypeError("At least one of stdout or stderr has to be initialized: give PIPE for what is to be searched")
        self.ready = ready
        self._present = ""
        self._watch: _weft._ReadyWatch | None = None

    def _place(self) -> str:
        return self._present or "its place"

    def pre_start_check(self) -> bool:
        """Is there already what will be waited for?"""
        self._present = self.ready.present()
        self._watch = None
        return bool(self._present)

    def after_start_check(self) -> bool:
        """Is it ready?"""
        if self.process is None:
            return False
        if self._watch is None:
            self._watch = self.process._child.watch(self.ready)
        ready = self._watch.look(self._limit())
        self._seen = "" if ready else self._watch.seen
        if not ready and self._watch.hopeless:
            raise self._output_ended()
        return ready


HTTPExecutorT = TypeVar("HTTPExecutorT", bound="HTTPExecutor")

_FLAGS = {re.IGNORECASE: 1, re.MULTILINE: 2, re.DOTALL: 4, re.VERBOSE: 8}


class OutputExecutor(SimpleExecutor):
    """Ready when the command has written what matches a regular expression, to standard output or standard error."""

    __module__ = "weft.process"

    def __init__(self, command: str | Sequence[str], banner: str | re.Pattern[str], **kwargs: Any) -> None:
        """`banner`: looked for anywhere in a line (`^` and `$` are a line's); that line, and what was before it, is not in output() any more.

        `kwargs`: those of SimpleExecutor. TypeError: neither stdout nor stderr is a pipe. ValueError: `banner` is no regular expression.
        """
        super().__init__(command, **kwargs)
        if not any((self._stdout, self._stderr)):
            raise TypeError("At least one of stdout or stderr has to be initialized: give PIPE for where the banner comes")
        self._banner = re.compile(banner)
        flags = 2 | sum(number for flag, number in _FLAGS.items() if self._banner.flags & flag)
        self._pattern = _weft._Pattern(self._banner.pattern.encode(), flags)

    def start(self: OutputExecutor) -> OutputExecutor:
        """Start the command and wait for the banner; returns the executor.

        TimeoutExpired: it did not come in time. ProcessExitedWithError, ExitedBeforeReady: the command ended without it.
        Whatever is raised, nothing of the command is left.
        """
        super().start()
        try:
            self._await_banner()
        except BaseException:
            self._give_up()
            raise
        return self

    def _await_banner(self) -> None:
        process = self.process
        assert process is not None
        unread = "; its standard error is not read: give stderr=PIPE" if self._stderr is None else ""
        self._seen = f"it has not written {self._banner.pattern!r}{unread}"
        raws = process._raw
        positions = [raw.position if raw is not None else 0 for raw in raws]
        left = None if self._endtime is None or self._timeout == float("inf") else self._endtime - time.monotonic()
        found = process._child.await_output(self._pattern, positions, left)
        if found is None:
            raise self._timed_out()
        if not found:
            raise self._output_ended()
        for raw, position in zip(raws, positions, strict=True):
            if raw is not None:
                raw.position = position
