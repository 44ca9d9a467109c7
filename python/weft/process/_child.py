"""Process: a run of a command, with the attributes of subprocess.Popen."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import IO, TYPE_CHECKING, Any, TypeVar

import weft
from weft._weft import _Child, _in_fiber

if TYPE_CHECKING:
    from types import TracebackType

    from _typeshed import WriteableBuffer

T = TypeVar("T")

_TO_PIPE, _TO_CALLER, _TO_NULL, _TO_OUTPUT = -1, -2, -3, -4
_COMMAND, _GROUP, _TREE = 0, 1, 2


class _Output(io.RawIOBase):
    """What a stream of a command has written, from a place on that moves as it is read."""

    def __init__(self, child: _Child, stream: int, position: int = 0) -> None:
        self.child, self.stream, self.position = child, stream, position
        self.mid_line = False
        self.lost = 0  # bytes that were pushed out of what is kept before they were read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        room = memoryview(buffer).cast("B")
        data, ended = b"", False
        while not data and not ended:
            before = self.position
            data, self.position, ended = self.child.read(self.stream, before, len(room))
            if self.position - len(data) > before:
                # Some of it is kept no more: on with the next line, not amid one, or amid a character.
                self.lost += self.position - len(data) - before
                self.mid_line = True
            if self.mid_line and data:
                _, found, rest = data.partition(b"\n")
                self.lost += len(data) - len(rest)
                data, self.mid_line = rest, not found
        room[: len(data)] = data
        return len(data)


class _Reader(io.BufferedReader):
    """Refuses a fiber that would wait for io's own lock, which blocks the OS thread, and with it who has the lock."""

    _users = 0

    def _alone(self, call: Callable[..., T], *args: Any) -> T:
        if self._users and _in_fiber() and not weft.is_patched():
            raise RuntimeError("another fiber or thread is reading this stream: read it in one, and hand on what comes")
        self._users += 1
        try:
            return call(*args)
        finally:
            self._users -= 1

    def read(self, size: int | None = -1, /) -> bytes:
        return self._alone(super().read, size)

    def read1(self, size: int = -1, /) -> bytes:
        return self._alone(super().read1, size)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        return self._alone(super().readinto, buffer)

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        return self._alone(super().readinto1, buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        return self._alone(super().readline, size)

    def peek(self, size: int = 0, /) -> bytes:
        return self._alone(super().peek, size)

    def close(self) -> None:
        self._alone(super().close)

    def detach(self) -> io.RawIOBase:
        return self._alone(super().detach)


class _Input(io.RawIOBase):
    def __init__(self, child: _Child) -> None:
        self.child = child

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.child.input

    def write(self, data: Any, /) -> int:
        return self.child.write(bytes(data))

    def close(self) -> None:
        if not self.closed:
            self.child.close_input()
        super().close()


def _target(to: int | IO[Any] | None, stream: int) -> int:
    """What `subprocess` takes for a stream, as the extension module takes it."""
    if to is None:
        return _TO_CALLER
    if to == subprocess.PIPE:
        return _TO_PIPE
    if to == subprocess.DEVNULL:
        return _TO_NULL
    if to == subprocess.STDOUT:
        if stream != 2:
            raise ValueError("STDOUT can be given for stderr only")
        return _TO_OUTPUT
    number = to if isinstance(to, int) else to.fileno()
    if number < 0:
        raise ValueError(f"{number} is no descriptor; give PIPE, DEVNULL, None, a file or its descriptor")
    return number


class Process:
    """A command that was started, as subprocess.Popen shows it; signals, wait() and kill() are for the command itself.

    What the command writes to pipes is read all the time: it never waits for a reader. The last `kept_output` bytes of
    each stream are kept. All waits suspend a fiber and block a thread, and are cancellable. Any thread, but that a stream
    is for one reader at a time; RuntimeError tells a fiber that is the second.
    """

    __module__ = "weft.process"

    def __init__(
        self,
        args: str | Sequence[str | os.PathLike[str]],
        *,
        shell: bool = False,
        executable: str | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        pass_fds: Iterable[int] | Mapping[int, int] = (),
        text: bool = True,
        encoding: str | None = None,
        errors: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Start it.

        `pass_fds`: descriptors that it inherits under the same numbers, or as {here: there}. `options`: user, group,
        groups, umask, nice, limits ([(resource, (soft, hard))]), blocked_signals (a mask), keep_ignored_signals,
        kept_output. OSError: it cannot be executed; the text says at which step, and nothing is left behind.
        """
        self.args = args
        words = [args] if isinstance(args, str) else [os.fspath(word) for word in args]
        if shell:
            words = ["/bin/sh", "-c", *words]
        if not words or not words[0]:
            raise ValueError("the command is empty: name a program")
        pairs = pass_fds.items() if isinstance(pass_fds, Mapping) else [(number, number) for number in pass_fds]
        self._child = _Child(
            os.fsencode(executable or words[0]),
            [os.fsencode(word) for word in words],
            None if env is None else [os.fsencode(name) + b"=" + os.fsencode(value) for name, value in env.items()],
            None if cwd is None else os.fsencode(cwd),
            [_target(stdin, 0), _target(stdout, 1), _target(stderr, 2)],
            list(pairs),
            dict(options or {}),
        )
        self._text = (encoding, errors) if text or encoding or errors else None
        self.stdin: IO[Any] | None = None
        if self._child.has_stream(0):
            raw_input = io.BufferedWriter(_Input(self._child))
            self.stdin = raw_input if self._text is None else io.TextIOWrapper(raw_input, *self._text, write_through=True)
        self._raw = [_Output(self._child, stream) if self._child.has_stream(stream) else None for stream in (1, 2)]
        self.stdout: IO[Any] | None
        self.stderr: IO[Any] | None
        self.stdout, self.stderr = (None if raw is None else self._open(raw) for raw in self._raw)

    def _open(self, raw: _Output) -> IO[Any]:
        buffered = _Reader(raw, 64 * 1024)
        return buffered if self._text is None else io.TextIOWrapper(buffered, *self._text)

    @property
    def pid(self) -> int:
        """The command's process id, which is that of its group and session as well."""
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """What it ended with; negative: by that signal; None: it runs."""
        return self._child.poll()

    def poll(self) -> int | None:
        """The same."""
        return self._child.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the command itself. subprocess.TimeoutExpired: it did not come in `timeout` seconds."""
        if not self._child.wait(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        code = self._child.poll()
        assert code is not None
        return code

    def send_signal(self, sig: int) -> None:
        """Send it to the command itself. Nothing happens if that has ended."""
        self._child.send_signal(sig, _COMMAND)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(15)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(9)

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:  # noqa: A002
        """Write `input`, close standard input, wait for the end, and return what both streams have from here on.

        As far as it is kept: the last `kept_output` bytes. subprocess.TimeoutExpired: after `timeout` seconds the command
        runs, or something has its output open.
        """
        try:
            with weft.timeout(timeout) if timeout is not None else nullcontext():
                if self.stdin is not None and input:
                    try:
                        self.stdin.write(input)
                        self.stdin.flush()
                    except BrokenPipeError:
                        pass
                self._child.close_input()
                self._child.wait()
                return tuple(None if stream is None else stream.read() for stream in (self.stdout, self.stderr))  # type: ignore[return-value]
        except weft.Timeout:
            if timeout is None:
                raise
            raise subprocess.TimeoutExpired(self.args, timeout) from None

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.stdin is not None:
            self.stdin.close()
        self.wait()

    def __repr__(self) -> str:
        code = self.returncode
        return f"<{type(self).__qualname__}: pid {self.pid} {'runs' if code is None else f'ended with {code}'}: {self.args!r}>"

    # For executors.

    def _lines(self, stream: int, count: int) -> list[str]:
        first, end = self._child.bounds(stream)
        data, _, _ = self._child.read(stream, max(first, end - 64 * 1024), 64 * 1024, 0)  # does not wait
        return data.decode(errors="replace").splitlines()[-count:]

    def _follow(self, stream: int) -> Iterator[bytes]:
        """Its lines; where some came faster than they were read, one that says so stands for them."""
        told, raw = 0, _Output(self._child, stream)
        for line in io.BufferedReader(raw, 64 * 1024):
            if raw.lost > told:
                yield b"(%d bytes came faster than they were read)\n" % (raw.lost - told)
                told = raw.lost
            yield line

