"""What executors raise. mirakuru's exceptions, whose texts say what was seen as well."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from weft.process._executor import SimpleExecutor

__all__ = [
    "AlreadyRunning",
    "ExecutorError",
    "ExitedBeforeReady",
    "LeftBehind",
    "ProcessExitedWithError",
    "ProcessFinishedWithError",
    "TimeoutExpired",
]


def _with_output(text: str, output: str) -> str:
    return f"{text}\nIts last output:\n{output}" if output else text


class ExecutorError(Exception):
    """What went wrong with an executor: the base of all here.

    `output` has the last lines that the command wrote, as far as they were kept.
    """

    __module__ = "weft.process"

    def __init__(self, executor: SimpleExecutor) -> None:
        super().__init__(executor)
        self.executor = executor
        self.output: str = executor._tail()


class TimeoutExpired(ExecutorError):
    """The command was not ready within the executor's time, and has been killed. `seen`: what was seen last instead."""

    __module__ = "weft.process"

    def __init__(self, executor: SimpleExecutor, timeout: float, seen: str = "") -> None:
        super().__init__(executor)
        self.timeout = timeout
        self.seen = seen

    def __str__(self) -> str:
        text = f"Executor {self.executor} timed out after {self.timeout} seconds"
        return _with_output(f"{text}: {self.seen}" if self.seen else text, self.output)


class ExitedBeforeReady(TimeoutExpired):
    """The command ended, with 0, and nothing that it left became ready.

    What ends with 0 may have left a daemon: so only the time, or the end of all output, tells.
    """

    __module__ = "weft.process"

    def __str__(self) -> str:
        text = f"Executor {self.executor} is not ready, and its command has ended with 0"
        return _with_output(f"{text}: {self.seen}" if self.seen else text, self.output)


class AlreadyRunning(ExecutorError):
    """Something is there already where the command would serve. The command was not started."""

    __module__ = "weft.process"

    def __str__(self) -> str:
        if self.executor.process is not None:
            return f"Executor {self.executor} has been started already, by this executor: stop() it first"
        return (
            f"Executor {self.executor} seems to be already running: {self.executor._place()} is taken. End what is "
            "there, a former run perhaps, or use another place"
        )


class ProcessExitedWithError(ExecutorError):
    """The command ended with `exit_code` before it was ready; negative: by that signal."""

    __module__ = "weft.process"

    def __init__(self, executor: SimpleExecutor, exit_code: int) -> None:
        super().__init__(executor)
        self.exit_code = exit_code

    def __str__(self) -> str:
        return _with_output(
            f"The process invoked by the {self.executor} executor has exited with a non-zero code: {self.exit_code}.",
            self.output,
        )


class ProcessFinishedWithError(ProcessExitedWithError):
    """The command was stopped, and ended with another `exit_code` than was expected."""

    __module__ = "weft.process"


class LeftBehind(ExecutorError):
    """Processes of the command could not be killed, or are not known. `reason` says which and why."""

    __module__ = "weft.process"

    def __init__(self, executor: SimpleExecutor, reason: str) -> None:
        super().__init__(executor)
        self.reason = reason

    def __str__(self) -> str:
        return f"Executor {self.executor} left something behind: {self.reason}"
