"""How fibers that spawn() started look to `threading`."""

from __future__ import annotations

import threading
from typing import Any

from weft import _weft


class _SpawnedThread(threading._DummyThread):
    """What `threading.current_thread()` answers in a fiber that was spawned: as in any thread that `threading` did
    not start, but with the fiber's name."""

    def __init__(self) -> None:
        super().__init__()
        fiber = _weft.current()
        if fiber is not None:
            self._name = fiber.name


def introduce() -> dict[str, Any]:
    """Called once, when the runtime starts; returns the names of `threading`."""
    threading._DummyThread = _SpawnedThread  # type: ignore[misc]
    import atexit

    atexit.register(_weft._shut_down)
    return vars(threading)
