"""How a leak test is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from weft.leaks._checkers import Checkers
from weft.leaks._garbage import name_of

# In the order of weft::detail::LeakMetric.
METRICS = ("heap", "mmap", "blocks", "python", "mapped", "uss", "rss", "vms", "arenas")


def require(name: str, value: object, types: type | tuple[type, ...], kind: str) -> None:
    """TypeError: it is of another type."""
    if not isinstance(value, types) or isinstance(value, bool):
        raise TypeError(f"{name!r} must be instance of {kind} (got {value!r})")


def require_callable(name: str, value: object) -> None:
    """TypeError: it cannot be called."""
    if not callable(value):
        raise TypeError(f"{name!r} must be instance of Callable (got {value!r}): pass the function, not its result")


def require_repeatable(where: str, fun: Callable[..., Any]) -> None:
    """TypeError: it is no plain function, and a call of it would run nothing."""
    if inspect.iscoroutinefunction(fun) or inspect.isasyncgenfunction(fun):
        raise TypeError(
            f"{where}: {name_of(fun)!r} is an async function, and a leak test takes plain ones: have one run the loop, as"
            " by asyncio.run()"
        )
    if inspect.isgeneratorfunction(fun):
        raise TypeError(f"{where}: {name_of(fun)!r} is a generator function, and a leak test takes plain ones: have one exhaust it")


@dataclass(frozen=True)
class Options:
    """The options of a leak test. Checked when it begins."""

    warmup_times: int = 10
    """Calls before anything is measured."""
    times: int = 200
    """Calls in the first run; the runs after it are longer."""
    retries: int = 10
    """Runs after which growth is a leak; there may be more if it is not certain."""
    tolerance: int | dict[str, int] | None = 0
    """Growth in `times` calls that is no leak: bytes, or by figure (see the guide on leak tests for their names)."""
    time_limit: float = 10.0
    """Seconds for the runs of memory. Without certainty by then, what was seen decides."""
    memory_limit: float = 256 * 1024 * 1024
    """Bytes that the process may grow by."""
    call_limit: float = 60.0
    """Seconds in which one call has to return. If it does not, it is interrupted and weft.Timeout is raised; where that
    is not possible, standard error is told so."""
    search: bool = True
    """Where memory leaks, call it some more to find out which code allocates what is lost."""
    trim_callback: Callable[[], Any] | None = None
    """Called before each measurement, to empty caches."""
    checkers: Checkers = field(default_factory=Checkers)
    """What is checked."""

    def validate(self) -> None:
        """Raise TypeError or ValueError for what cannot be."""
        for name, least in (("warmup_times", 0), ("times", 1), ("retries", 0)):
            value = getattr(self, name)
            require(name, value, int, "int")
            if value < least:
                raise ValueError(f"{name} must be >= {least} (got {value})")
        for name in ("time_limit", "memory_limit", "call_limit"):
            value = getattr(self, name)
            require(name, value, (int, float), "float")
            if not value > 0:
                raise ValueError(f"{name} must be > 0 (got {value})")
        require("checkers", self.checkers, Checkers, "Checkers")
        if self.trim_callback is not None:
            require_callable("trim_callback", self.trim_callback)
        self._validate_tolerance()

    def _validate_tolerance(self) -> None:
        if self.tolerance is None:
            return
        require("tolerance", self.tolerance, (int, dict), "int or dict")
        if isinstance(self.tolerance, int):
            if self.tolerance < 0:
                raise ValueError(f"tolerance must be >= 0 (got {self.tolerance!r})")
            return
        for key, value in self.tolerance.items():
            if key not in METRICS:
                raise ValueError(f"invalid tolerance key {key!r}: there are {', '.join(METRICS)}")
            require(f"tolerance[{key!r}]", value, (int, float), "int")
            if value < 0:
                raise ValueError(f"{key!r} tolerance must be >= 0 (got {value})")


def tolerances(tolerance: int | dict[str, int] | None) -> list[float]:
    """By metric. What is counted exactly, beside psleak's five figures, may grow as far as those allow: a block has 16
    bytes at least."""
    given = tolerance if isinstance(tolerance, dict) else dict.fromkeys(("heap", "mmap", "uss", "rss", "vms"), tolerance or 0)
    heap, mmap = given.get("heap", 0), given.get("mmap", 0)
    implied = {"arenas": heap, "blocks": (heap + mmap) / 16, "python": heap / 16, "mapped": max(mmap, given.get("vms", 0))}
    return [float(given.get(name, implied.get(name, 0))) for name in METRICS]
