"""Help with actors that stand still."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from typing import Any

from weft import _weft

__all__ = ["log_thread_tracebacks"]

_logger = logging.getLogger("weft.actor")


def log_thread_tracebacks(*_args: Any, **_kwargs: Any) -> None:
    """Log, as critical, where each thread and each fiber is. May serve as a signal handler.

    `weft dump PID` shows the same from outside, and what each waits for.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate() if thread.ident is not None}
    names |= _weft._running_actors()
    for ident, frame in sys._current_frames().items():
        stack = "".join(traceback.format_stack(frame))
        _logger.critical("Current state of %s (ident: %s):\n%s", names.get(ident, "?"), ident, stack)
