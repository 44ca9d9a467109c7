"""Leak tests: does a function leave memory, descriptors, threads, fibers, processes, files behind?

psleak's API. The verdict rests on a bound for the growth per call, not on "it grew every time"; allocations are counted
as they are made, so a lost block of 16 bytes in every hundredth call shows.
"""

from __future__ import annotations

import os
import threading
import warnings

from weft import heap
from weft.leaks._case import LeakTest, MemoryLeakTestCase
from weft.leaks._check import Report, check
from weft.leaks._checkers import Checkers
from weft.leaks._errors import (
    Error,
    Left,
    MemoryLeakError,
    UnclosedFdError,
    UnclosedFiberError,
    UnclosedFileError,
    UnclosedHandleError,
    UnclosedHeapCreateError,
    UnclosedNativeThreadError,
    UnclosedProcessError,
    UnclosedPythonThreadError,
    UnclosedResourceError,
    UnclosedSegmentError,
    UncollectableGarbageError,
)
from weft.leaks._garbage import GCDebugger
from weft.leaks._options import Options
from weft.leaks._repeat import leak_test

__all__ = [
    "Checkers",
    "Error",
    "GCDebugger",
    "LeakTest",
    "Left",
    "MemoryLeakError",
    "MemoryLeakTestCase",
    "Options",
    "Report",
    "UnclosedFdError",
    "UnclosedFiberError",
    "UnclosedFileError",
    "UnclosedHandleError",
    "UnclosedHeapCreateError",
    "UnclosedNativeThreadError",
    "UnclosedProcessError",
    "UnclosedPythonThreadError",
    "UnclosedResourceError",
    "UnclosedSegmentError",
    "UncollectableGarbageError",
    "check",
    "leak_test",
]

_warnings_emitted = False


def _emit_warnings() -> None:
    """Once in a process: what makes figures less certain."""
    global _warnings_emitted
    if _warnings_emitted:
        return
    _warnings_emitted = True

    def warn(text: str) -> None:
        warnings.warn(text, RuntimeWarning, stacklevel=3)

    less = "; memory leak detection may be less reliable"
    heap_info = getattr(heap, "heap_info", None)
    try:
        if heap_info is None:
            warn(f"heap_info() not available here{less}")
        elif heap_info().heap_used == 0:
            warn(f"psutil.heap_info() appears disabled: it tells of an empty heap{less}")
    except NotImplementedError as reason:
        warn(f"{reason}{less}")
    if os.environ.get("PYTHONUNBUFFERED") != "1":
        warn(f"PYTHONUNBUFFERED=1 environment variable was not set{less}")
    if "PYTEST_XDIST_WORKER" in os.environ:
        warn("memory leak detection is unreliable when running tests in parallel via pytest-xdist")
    here = threading.current_thread()
    others = [thread.name for thread in threading.enumerate() if thread is not here and not thread.name.startswith("weft-")]
    if others:
        warn(f"active Python threads exist, what they do counts as the function's: {', '.join(others)}")
