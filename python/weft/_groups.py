"""Task groups."""

from __future__ import annotations

from weft import _weft
from weft._errors import Cancelled, Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, TypeVar

    T = TypeVar("T")


class TaskGroup:
    """Fibers that end before the block ends that began them.

    The first that fails cancels the others, and the block's own waits; leaving the block then raises an
    ExceptionGroup of what was raised, in the order of its fibers' ends. A fiber that ends by Cancelled is no failure.
    """

    def __init__(self) -> None:
        self._group: _weft._Group | None = None

    def __enter__(self) -> TaskGroup:
        if self._group is not None:
            raise RuntimeError("a TaskGroup is for one `with` block: make another")
        self._group = _weft._Group()
        return self

    def spawn(
        self, function: Callable[..., T], /, *args: Any, name: str | None = None, **kwargs: Any
    ) -> _weft.Fiber[T]:
        """As weft.spawn(). Any fiber of the group may call it, until the block has ended."""
        if self._group is None:
            raise RuntimeError("TaskGroup.spawn() is for the `with` block of the group")
        return self._group.spawn(function, *args, name=name, **kwargs)

    def cancel(self) -> None:
        """Cancel all fibers of the group, and the waits of its block."""
        if self._group is not None:
            self._group.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        group = self._group
        assert group is not None
        if error is not None:
            group.cancel()
        outcome = group.join()
        failures = group.failures()
        if error is not None and not isinstance(error, (Exception, Cancelled)):
            return False  # KeyboardInterrupt and the like
        if not failures:
            if isinstance(error, Cancelled):
                return outcome == _READY  # the block was left because of cancel() of the group, and of nothing else
            if isinstance(error, Timeout) and outcome == _EXPIRED:
                return False  # of a scope around the group
        if isinstance(error, Exception):
            failures.insert(0, error)
        if failures:
            if any(not isinstance(failure, Exception) for failure in failures):
                raise BaseExceptionGroup("failures in a TaskGroup", failures) from None
            raise ExceptionGroup("failures in a TaskGroup", failures) from None  # type: ignore[type-var]
        _weft._raise(outcome)
        return False


# detail::Outcome
_READY = 1
_EXPIRED = 6
