"""What only the garbage collector can free."""

from __future__ import annotations

import gc
import threading
import types
from collections.abc import Callable
from typing import Any

from weft.leaks._errors import UncollectableGarbageError


def name_of(fun: Callable[..., Any]) -> str:
    """A function's name for people."""
    inner = getattr(fun, "func", None)  # of a functools.partial
    if inner is not None and not hasattr(fun, "__name__"):
        return name_of(inner)
    return str(getattr(fun, "__qualname__", getattr(fun, "__name__", fun)))


class GCDebugger:
    """Keeps what the garbage collector finds while it is entered, instead of freeing it.

    Objects that refer to each other live on until the collector runs, which may be late, and with them all that they
    hold. Exceptions and frames refer to each other for a while as a rule, and are not counted.
    """

    _TRANSIENT = (
        types.FrameType, types.TracebackType, types.CellType, threading.Thread, BaseException,
        int, float, complex, str, bytes, bytearray, type(None),
    )  # fmt: skip

    def __enter__(self) -> GCDebugger:
        gc.collect()
        self._flags = gc.get_debug()
        self.before: list[Any] = list(gc.garbage)
        self.after: list[Any] = []
        gc.garbage.clear()
        gc.set_debug(gc.DEBUG_SAVEALL)
        return self

    def __exit__(self, *error: object) -> None:
        gc.collect()
        self.after = list(gc.garbage)
        gc.set_debug(self._flags)
        gc.garbage[:] = self.before

    def is_transient(self, obj: object) -> bool:
        """Is it made of nothing but values, exceptions, frames and threads?"""
        seen: set[int] = set()
        todo = [obj]
        while todo:
            one = todo.pop()
            if isinstance(one, self._TRANSIENT) or id(one) in seen:
                continue
            seen.add(id(one))
            if isinstance(one, dict):
                todo.extend(one.keys())
                todo.extend(one.values())
            elif isinstance(one, (list, tuple, set, frozenset)):
                todo.extend(one)
            else:
                return False
        return True

    def leaked_objects(self) -> list[Any]:
        """What was found, but for what is transient."""
        return [one for one in self.after if not self.is_transient(one)]

    def check(self, fun: Callable[..., Any]) -> None:
        """Raise UncollectableGarbageError if there is any."""
        leaked = self.leaked_objects()
        self.after.clear()
        if leaked:
            raise UncollectableGarbageError(len(leaked), name_of(fun), extras=leaked)
