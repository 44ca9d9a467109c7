"""Blocking code that scales: threads as fibers, a hundred thousand to a process.

`patch()` makes a threaded program's threads fibers, and its blocking calls cooperative. `spawn()` starts fibers
without `threading`. Both mix freely with each other and with real threads.

(PYTEST_DONT_REWRITE: it may be imported before pytest, which warns of packages with plugins that are.)
"""

from __future__ import annotations

from weft import _weft
from weft._errors import Cancelled, Closed, Timeout

_weft._set_exceptions(Cancelled, Timeout, Closed)
_weft._publish()

from weft._build import get_include, get_library  # noqa: E402
from weft._groups import TaskGroup  # noqa: E402
from weft._map import map  # noqa: E402
from weft._patch import FAMILIES, StillRunning, is_patched, patch, patched, report, unpatch  # noqa: E402
from weft._weft import (  # noqa: E402
    Case,
    Channel,
    Fiber,
    __version__,
    after,
    current,
    readable,
    running,
    select,
    sending,
    shield,
    sleep,
    spawn,
    start,
    timeout,
    to_thread,
    wait_readable,
    wait_writable,
    writable,
    yield_now,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, TypeVar

    T = TypeVar("T")

__all__ = [
    "FAMILIES",
    "Cancelled",
    "Case",
    "Channel",
    "Closed",
    "Fiber",
    "StillRunning",
    "TaskGroup",
    "Timeout",
    "__version__",
    "after",
    "current",
    "get_include",
    "get_library",
    "is_patched",
    "map",
    "patch",
    "patched",
    "readable",
    "report",
    "run_async",
    "running",
    "select",
    "sending",
    "shield",
    "sleep",
    "spawn",
    "start",
    "timeout",
    "to_thread",
    "unpatch",
    "wait_readable",
    "wait_writable",
    "writable",
    "yield_now",
]


TaskGroup.__module__ = "weft"


def __dir__() -> list[str]:
    return [name for name in globals() if name in __all__ or name.startswith("_")]


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in asyncio, beside the fibers, and return what it returns.

    All such coroutines share one event loop, in an OS thread of its own (under `weft run`, a fiber). A cancellation
    point: the coroutine is cancelled with the fiber, and waited for. Not for use in such a coroutine: await there.
    """
    from weft import _asyncio  # asyncio takes 40 ms to import

    return _asyncio.run(coroutine)
