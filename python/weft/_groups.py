"""Task groups."""

from __future__ import annotations

from weft import _weft
from weft._errors import Cancelled, Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")


class TaskGroup(_weft._Group):
    """Fibers that end before the block ends that began them.

    The first that fails cancels the others, and the block's own waits; leaving the block then raises an
    ExceptionGroup of what was raised, in the order of its fibers' ends. SystemExit and KeyboardInterrupt come out as
    they are. A fiber that ends by Cancelled is no failure.

    In an OS thread, which cannot be cancelled, a group cancels its fibers but not the waits of its block.
    """

    def __enter__(self) -> TaskGroup:
        self._enter()
        return self

    def spawn(
        self, function: Callable[..., T], /, *args: Any, name: str | None = None, **kwargs: Any
    ) -> _weft.Fiber[T]:
        """As weft.spawn(). Any fiber of the group may call it, until the block has ended."""
        return self._spawn(function, *args, name=name, **kwargs)

    def cancel(self) -> None:
        """Cancel all fibers of the group, and the waits of its block. Nothing once the block has ended."""
        self._cancel()

    # What leaving the block raises: `error` itself, which was raised in it; or another; or, None, what the wait for
    # its fibers ended with. `cancelled`: the group was, before the block was left.
    @staticmethod
    def _verdict(
        error: BaseException | None, failures: list[BaseException], cancelled: bool, outcome: int
    ) -> BaseException | None:
        if error is not None and not isinstance(error, (Exception, Cancelled)):
            return error  # KeyboardInterrupt and the like
        for failure in failures:
            if isinstance(failure, (SystemExit, KeyboardInterrupt)):
                return failure
        if not failures:
            if isinstance(error, Cancelled):
                # Because of cancel() of the group, and of nothing else?
                return None if cancelled and outcome != _CANCELLED else error
            if isinstance(error, Timeout) and outcome == _EXPIRED:
                return error  # of a scope around the group
        if isinstance(error, Exception) and not any(failure is error for failure in failures):
            failures.insert(0, error)
        if not failures:
            return None
        group = BaseExceptionGroup("failures in a TaskGroup", failures)  # an ExceptionGroup, if all are Exceptions
        group.__suppress_context__ = True
        return group


# detail::Outcome
_CANCELLED = 4
_EXPIRED = 6
