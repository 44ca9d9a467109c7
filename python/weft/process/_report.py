"""What is told of a command meanwhile: its progress on a terminal, its output to a log."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.process._child import Process
    from weft.process._executor import SimpleExecutor

_FIRST = 1.0  # seconds; what is ready sooner is not worth a word


class Progress:
    """A line on standard error, each second from the first on; taken away when there is nothing to wait for any more."""

    def __init__(self, executor: SimpleExecutor, wanted: bool | None) -> None:
        self.terminal = sys.stderr is not None and sys.stderr.isatty()
        self.wanted = self.terminal if wanted is None else wanted and sys.stderr is not None
        self.executor = executor
        self.next = _FIRST
        self.told = False

    def __enter__(self) -> Progress:
        return self

    def tell(self, waited: float, seen: str) -> None:
        if not self.wanted or waited < self.next:
            return
        self.next = int(waited) + 1.0
        text = f"waiting for {self.executor.command}: {waited:.0f} s{': ' if seen else ''}{seen}"
        sys.stderr.write(f"\r\033[K{text[:200]}" if self.terminal else f"{text}\n")
        sys.stderr.flush()
        self.told = True

    def __exit__(self, *_: object) -> None:
        if self.told and self.terminal:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def check_log(log: Any) -> Any:
    """What `log` may be, or None."""
    if log is None or callable(log) or isinstance(log, (logging.Logger, str, bytes, os.PathLike)):
        return log
    advice = "; give its write method" if hasattr(log, "write") else ""
    raise TypeError(f"log must be a logger, the path of a file or a function, not {log!r}{advice}")


class Tee:
    """Copies the lines of a command's streams, in a thread for each that has a pipe, until they end."""

    def __init__(
        self, to: logging.Logger | str | os.PathLike[str] | Callable[[str], object], name: str
    ) -> None:
        self.to, self.name = to, name
        self.process: Process
        self.file: IO[bytes] | None = None
        if not callable(to) and not isinstance(to, logging.Logger):
            try:
                self.file = open(to, "ab", buffering=0)  # noqa: SIM115 - closed by the last thread
            except OSError as error:
                raise type(error)(error.errno, f"the log cannot be written: {error.strerror}", to) from None
        self.lock = threading.Lock()
        self.threads: list[threading.Thread] = []
        self.left = 0

    def start(self, process: Process) -> None:
        self.process = process
        streams = [stream for stream in (1, 2) if process._child.has_stream(stream)]
        self.left = len(streams)
        if not streams:
            self.close()
        for stream in streams:
            thread = threading.Thread(target=self._copy, args=(stream,), name=f"tee of {self.name}", daemon=True)
            thread.start()
            self.threads.append(thread)

    def join(self, seconds: float) -> None:
        """Wait until all that was written has been copied, so long at most: a function may have hung."""
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join(seconds)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def _copy(self, stream: int) -> None:
        try:
            for line in self.process._follow(stream):
                self._put(line)
        finally:
            with self.lock:
                self.left -= 1
                if self.left == 0:
                    self.close()

    def _put(self, line: bytes) -> None:
        if self.file is not None:
            self.file.write(line)
            return
        text = line.decode(errors="replace").rstrip("\n")
        to: Any = self.to
        if isinstance(to, logging.Logger):
            to.info("%s", text)
        else:
            to(text)
