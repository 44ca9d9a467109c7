"""Help with actors that stand still."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from typing import Any

from weft import _weft

__all__ = ["log_thread_tracebacks"]

logger = logging.getLogger("weft.actor")


def log_thread_tracebacks(*_args: Any, **_kwargs: Any) -> None:
    """Log, as critical, where each thread and each fiber is. May serve as a signal handler.

    `weft dump PID` shows the same from outside, and what each waits for.
    """
    names: dict[int | None, str] = {thread.ident: thread.name for thread in threading.enumerate()}
    names |= _weft._running_actors()
    for ident, frame in sys._current_frames().items():
        stack = "".join(traceback.format_stack(frame))
        logger.critical("Current state of %s (ident: %s):\n%s", names.get(ident, "?"), ident, stack)
