"""SimpleExecutor and Executor: commands that are started, waited for, and ended with all that descends from them."""

from __future__ import annotations

import atexit
import operator
import os
import shlex
import signal
import subprocess
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeVar

import weft
from weft import _weft
from weft.process._child import _TREE, Process
from weft.process._errors import (
    AlreadyRunning,
    ExecutorError,
    ExitedBeforeReady,
    LeftBehind,
    ProcessExitedWithError,
    ProcessFinishedWithError,
    TimeoutExpired,
)
from weft.process._popen import options_of
from weft.process._report import Progress, Tee, check_log

if TYPE_CHECKING:
    import logging
    import socket
    from types import TracebackType

SimpleExecutorT = TypeVar("SimpleExecutorT", bound="SimpleExecutor")
ExecutorT = TypeVar("ExecutorT", bound="Executor")

_STOP_GRACE = 10.0  # seconds; what mirakuru documents
_STREAMS_AND_DESCRIPTORS = {"stdin", "stdout", "stderr", "pass_fds"}
_TAIL = 20  # lines of output in an error's text

_alive: weakref.WeakSet[SimpleExecutor] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """End what is left at the interpreter's end, and see it gone. After a harder end the keepers do."""
    for executor in list(_alive):
        try:
            executor.kill()
        except Exception:  # noqa: BLE001, S110 - the next one's turn
            pass


def seconds_of(name: str, value: float | None, least: float = 0) -> float | None:
    if value is not None and not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be seconds, as 30 or 0.5, not {value!r}")
    if value is not None and not value >= least:
        raise ValueError(f"{name} must be {least} or more seconds, not {value!r}")
    return value


def _signal(name: str, value: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a signal's number, as signal.SIGINT, not {value!r}") from None
    if not 0 < number < signal.NSIG:
        raise ValueError(f"{name} must be a signal's number, 1 to {signal.NSIG - 1}, not {value!r}")
    return number


def _variables(given: Mapping[str, str]) -> dict[str, str]:
    variables = dict(given)
    for name, value in variables.items():
        if not isinstance(name, (str, bytes)) or not name or "=" in os.fsdecode(name):
            raise ValueError(f"envvars: {name!r} cannot be a variable's name: that is text without '='")
        if not isinstance(value, (str, bytes, os.PathLike)):
            advice = "leave it out" if value is None else f"give {str(value)!r}"
            raise TypeError(f"envvars: the value of {name} must be text, not {value!r}: {advice}")
    return variables


class SimpleExecutor:
    """Runs a command. It is ready once it has been started.

    The command leads a session and a group of its own; the process that starts it may end in whatever way: nothing that
    descends from the command outlives it. What the command writes is read all the time, so that it never waits for a
    reader. Waits suspend a fiber and block a thread; they are cancellable. Not for use by several threads at a time, but
    for `running()`, `output()` and `kill()`.
    """

    __module__ = "weft.process"

    def __init__(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        cwd: str | None = None,
        shell: bool = False,
        timeout: float = 3600,
        sleep: float = 0.1,
        stop_signal: int = signal.SIGTERM,
        kill_signal: int = signal.SIGKILL,
        expected_returncode: int | None = None,
        envvars: Mapping[str, str] | None = None,
        stdin: int | IO[Any] | None = subprocess.PIPE,
        stdout: int | IO[Any] | None = subprocess.PIPE,
        stderr: int | IO[Any] | None = None,
        popen_kwargs: Mapping[str, Any] | None = None,
        *,
        grace: float | None = None,
        kept_output: int = 1 << 20,
        log: logging.Logger | str | os.PathLike[str] | Callable[[str], object] | None = None,
        progress: bool | None = None,
        listen: Sequence[socket.socket] = (),
    ) -> None:
        """`command`: words, or a text that is split as a shell would, or with `shell` given to one.

        `timeout`: seconds that it may take to become ready. `sleep`: the longest pause between two looks; the first are
        shorter. `stop_signal`: how stop() asks it to end; SIGKILL follows after `grace` seconds (default: 10, or
        `timeout` if that is less). `expected_returncode`: of a command that is stopped, besides 0 (default: that of
        `stop_signal`). `envvars`: added to the environment. `popen_kwargs`: what else subprocess.Popen takes, as far as
        it can be had (ValueError tells what cannot).

        `kept_output`: bytes of each stream that are kept, the last ones. `log`: where each line of output goes besides:
        a logger, a file's path (it is appended to), a function; where that is slower than the command by more than
        `kept_output`, a line says how much is missing. `progress`: say on standard error what is waited for, each second
        (default: if that is a terminal). `listen`: sockets that the command takes over, as descriptors from 3 on, told by
        LISTEN_FDS and LISTEN_PID as systemd does; they stay open here.
        """
        self.command: str
        self.command_parts: Sequence[str]
        if isinstance(command, str):
            self.command = command
            self.command_parts = shlex.split(command)
        else:
            self.command_parts = [os.fspath(word) for word in command]
            self.command = shlex.join(self.command_parts)
        if not self.command_parts:
            raise ValueError("the command is empty: name a program")
        if timeout is None or timeout is False:
            timeout = float("inf")
        self._timeout = timeout
        self._sleep = sleep
        self._grace = seconds_of("grace", grace)
        seconds_of("timeout", timeout)
        seconds_of("sleep", sleep)
        self._cwd = cwd
        self._shell = shell
        self._stop_signal = _signal("stop_signal", stop_signal)
        self._kill_signal = _signal("kill_signal", kill_signal)
        self._expected_returncode = expected_returncode
        self._envvars = _variables(envvars or {})
        self._stdin, self._stdout, self._stderr = stdin, stdout, stderr
        self._additional_popen_kwargs = dict(popen_kwargs or {})
        self._popen = options_of(self._additional_popen_kwargs)
        self._popen["options"]["kept_output"] = kept_output
        self._listen = list(listen)
        self._log = check_log(log)
        self._progress = progress
        self._tee: Tee | None = None
        self._endtime: float | None = None
        self._seen = ""
        self._owner = os.getpid()
        self.process: Process | None = None
        """The run, once started; None again when it was stopped."""
        self._last: Process | None = None

    def __enter__(self: SimpleExecutorT) -> SimpleExecutorT:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with weft.shield():  # whoever is cancelled in the block still lets the command end in its own way
            self.stop()

    def running(self) -> bool:
        """Does the command itself run? One that left a daemon behind, and ended, does not. In a fork child: no."""
        process = self.process
        return process is not None and self._owner == os.getpid() and process.poll() is None

    @property
    def envvars(self) -> dict[str, str]:
        """The command's environment: this process's, and what was given."""
        # The keeper fills in the number, which is not known here.
        handed = {"LISTEN_FDS": str(len(self._listen)), "LISTEN_PID": ""} if self._listen else {}
        return {**os.environ, **handed, **self._envvars}

    def _passed(self) -> dict[int, int]:
        handed = {each.fileno(): 3 + place for place, each in enumerate(self._listen)}
        return {**{number: number for number in self._popen.get("pass_fds", ())}, **handed}

    def start(self: SimpleExecutorT) -> SimpleExecutorT:
        """Start the command, unless it was started and not stopped since; returns the executor.

        OSError: it cannot be executed.
        """
        if self.process is None:
            tee = None if self._log is None else Tee(self._log, str(self))
            try:
                self._owner = os.getpid()
                self.process = self._last = Process(
                    self.command if self._shell else self.command_parts,
                    shell=self._shell,
                    cwd=self._cwd,
                    env=self.envvars,
                    stdin=self._stdin or self._popen.get("stdin"),
                    stdout=self._stdout or self._popen.get("stdout"),
                    stderr=self._stderr or self._popen.get("stderr"),
                    pass_fds=self._passed(),
                    **{name: value for name, value in self._popen.items() if name not in _STREAMS_AND_DESCRIPTORS},
                )
                _alive.add(self)
                if tee is not None:
                    tee.start(self.process)
                    self._tee = tee
            except BaseException:
                if tee is not None and not tee.threads:
                    tee.close()
                self._give_up()
                raise
        self._set_timeout()
        self._seen = ""
        return self

    def _set_timeout(self) -> None:
        self._endtime = time.monotonic() + self._timeout

    def check_timeout(self) -> bool:
        """Is there time left for the command to become ready?"""
        return self._endtime is None or time.monotonic() <= self._endtime

    def _clear_process(self) -> None:
        process, self.process = self.process, None
        self._endtime = None
        _alive.discard(self)
        if process is not None:
            process._child.close_input()  # and not stdin.close(), which waits for who writes

    def _end(self, sig: int, grace: float) -> tuple[int, bool]:
        """End the tree, and see it gone. Returns what the command ended with, and whether SIGKILL was needed for it."""
        process = self.process
        if process is None or self._owner != os.getpid():  # a fork has no say
            self._clear_process()
            return 0, False
        child = process._child
        began_alive = process.poll() is None
        child.end(sig, grace)
        try:
            child.wait_gone()
            if self._tee is not None:
                self._tee.join(5)
        except BaseException:
            self._end_now(child)
            raise
        finally:
            self._tee = None
            self._clear_process()
        code, _, forced, lost, _, (stuck, pid, error) = child.state
        if lost:
            raise LeftBehind(self, "weft-keeper was killed; the command was with it, its descendants are not known")
        if stuck:
            why = os.strerror(error)
            raise LeftBehind(self, f"{stuck} processes could not be killed, as process {pid} ({why}); end them as their user")
        return code, began_alive and forced and code == -signal.SIGKILL

    @staticmethod
    def _end_now(child: _weft._Child) -> None:
        child.end(signal.SIGKILL, 0)
        with weft.shield():
            child.wait_gone()

    def stop(
        self: SimpleExecutorT, stop_signal: int | None = None, expected_returncode: int | None = None
    ) -> SimpleExecutorT:
        """Ask the command's group to end, by `stop_signal`, then whatever else descends from it; returns the executor.

        What has not ended after the grace period is killed. Nothing happens if it does not run.
        ProcessFinishedWithError: it ended with a code that is neither 0 nor expected; but not when it had to be killed.
        """
        if self.process is None:
            return self
        sig = self._stop_signal if stop_signal is None else _signal("stop_signal", stop_signal)
        grace = self._grace if self._grace is not None else min(self._timeout, _STOP_GRACE)
        code, killed = self._end(sig, grace)
        if expected_returncode is None:
            expected_returncode = self._expected_returncode
        if expected_returncode is None:
            expected_returncode = -sig
        if code and code != expected_returncode and not killed:
            raise ProcessFinishedWithError(self, code)
        return self

    @contextmanager
    def stopped(self: SimpleExecutorT) -> Iterator[SimpleExecutorT]:
        """Stop it for a `with` block, and start it again afterwards, if it ran and the block did not raise."""
        ran = self.running()
        if ran:
            self.stop()
        yield self
        if ran:
            self.start()

    def kill(self: SimpleExecutorT, wait: bool = True, sig: int | None = None) -> SimpleExecutorT:
        """Send the kill signal, or `sig`, to all of it; returns the executor.

        With `wait`, when nothing is left. What ignores another signal than SIGKILL is killed after the grace period.
        """
        process = self.process
        if process is None:
            return self
        sig = self._kill_signal if sig is None else _signal("sig", sig)
        grace = 0.0 if sig == signal.SIGKILL else _STOP_GRACE if self._grace is None else self._grace
        if wait:
            self._end(sig, grace)
        else:
            if self._owner == os.getpid():
                process._child.end(sig, grace)
                process._child.leave()
            self._clear_process()
        return self

    def output(self) -> IO[Any] | None:
        """What the command writes to standard output, from where the last reader left off; None: it has no pipe.

        For one reader at a time. Also after it was stopped. What nobody read before it was pushed out of what is kept is
        missing.
        """
        return self._last.stdout if self._last is not None else None

    def err_output(self) -> IO[Any] | None:
        """The same for standard error."""
        return self._last.stderr if self._last is not None else None

    def tail(self, lines: int = _TAIL) -> list[str]:
        """The last lines that were written, to either stream, read before or not. Empty without pipes."""
        if self._last is None:
            return []
        return [line for stream in (1, 2) for line in self._last._lines(stream, lines)]

    def _tail(self) -> str:
        return "\n".join(f"  {line}" for line in self.tail())

    def wait_for(self: SimpleExecutorT, wait_for: Callable[[], bool]) -> SimpleExecutorT:
        """Call `wait_for` until it is true, at once again when the command ends; returns the executor.

        TimeoutExpired: it was not within the executor's time; the command is killed then.
        """
        began = time.monotonic()
        process, deadline = self.process, self._endtime
        with Progress(self, self._progress) as progress:
            while deadline is None or time.monotonic() <= deadline:
                if wait_for():
                    return self
                if process is not None and self.process is not process:
                    self._seen = "it was stopped meanwhile"
                    break
                waited = time.monotonic() - began
                progress.tell(waited, self._seen)
                self._pause(waited, wait_for)
        try:
            error = self._timed_out()
        finally:
            self._give_up()
        try:
            raise error
        finally:
            del error  # its traceback has this frame, which knows the executor

    def _left(self) -> float:
        return float("inf") if self._endtime is None else max(0.0, self._endtime - time.monotonic()) + 0.001

    def _pause(self, waited: float, wait_for: Callable[[], bool]) -> None:
        seconds = min(_weft._probe_pause(waited, self._sleep), self._left())
        process = self.process
        if process is None or process.poll() is not None:
            weft.sleep(seconds)
        else:
            process._child.wait(seconds)

    def _output_ended(self) -> ExecutorError:
        """All that could have written it has ended, or closed its output."""
        process = self._last
        code = process.poll() if process is not None and process._child.wait(1) else None
        if code:
            return ProcessExitedWithError(self, code)
        if code == 0:
            return ExitedBeforeReady(self, self._timeout, self._seen)
        return TimeoutExpired(self, self._timeout, f"{self._seen}, and it has closed its output")

    def _timed_out(self) -> TimeoutExpired:
        process, seen = self.process, self._seen
        if process is not None and "refuses connections" in seen and (places := process._child.places()):
            seen += f"; the command listens at {places}"
        if process is not None and process.poll() == 0:
            return ExitedBeforeReady(self, self._timeout, seen)
        return TimeoutExpired(self, self._timeout, seen)

    def _give_up(self) -> None:
        with weft.shield():
            self.kill(sig=signal.SIGKILL)

    def _kill_all_kids(self, sig: int) -> None:
        if self.process is not None:
            self.process._child.send_signal(sig, _TREE)

    def __del__(self) -> None:
        if getattr(self, "process", None) is not None and self._owner == os.getpid():
            self.kill()

    def _place(self) -> str:
        return "its place"

    def _name(self) -> str:
        return f"{type(self).__module__}.{type(self).__name__}"

    def __repr__(self) -> str:
        command = self.command if len(self.command) <= 10 else self.command[:10] + "..."
        return f'<{self._name()}: "{command}" {hex(id(self))}>'

    def __str__(self) -> str:
        return f'<{self._name()}: "{self.command}" {hex(id(self))}>'


class Executor(SimpleExecutor):
    """Base of executors that look before they start a command, and wait until it is ready."""

    __module__ = "weft.process"

    def pre_start_check(self) -> bool:
        """To be overridden: is something there already where the command would serve?"""
        raise NotImplementedError(f"{type(self).__name__} needs a method pre_start_check(); return False to look at nothing")

    def after_start_check(self) -> bool:
        """To be overridden: is it ready? Called again and again."""
        raise NotImplementedError(f"{type(self).__name__} needs a method after_start_check(): is the command ready?")

    def start(self: ExecutorT) -> ExecutorT:
        """Start the command and wait until it is ready; returns the executor.

        AlreadyRunning: something is there already; nothing was started. ProcessExitedWithError, TimeoutExpired: it did
        not become ready. Whatever is raised, a cancellation or KeyboardInterrupt too: nothing of the command is left.
        """
        if self.pre_start_check():
            raise AlreadyRunning(self)
        super().start()
        try:
            self.wait_for(self.check_subprocess)
        except BaseException:
            self._give_up()
            raise
        return self

    def check_subprocess(self) -> bool:
        """Is it ready? ProcessExitedWithError: it has ended with an error; what it left is killed."""
        process = self.process
        if process is None:
            return False
        code = process.poll()
        if code:
            self._end_now(process._child)  # then all that it wrote has been read
            failure = ProcessExitedWithError(self, code)
            self._give_up()
            try:
                raise failure
            finally:
                del failure  # as above
        return self.after_start_check()
