"""How a function is looked at: once for what it leaves open, many times for memory."""

from __future__ import annotations

import dataclasses
import functools
import gc
import linecache
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from weft import _weft
from weft.leaks._caller import Caller, limited
from weft.leaks._checkers import Checkers
from weft.leaks._errors import (
    Error,
    Left,
    MemoryLeakError,
    UnclosedFdError,
    UnclosedFiberError,
    UnclosedFileError,
    UnclosedNativeThreadError,
    UnclosedProcessError,
    UnclosedPythonThreadError,
    UnclosedResourceError,
    UnclosedSegmentError,
    UncollectableGarbageError,
)
from weft.leaks._garbage import GCDebugger, name_of
from weft.leaks._options import Options, require_callable, require_repeatable, tolerances
from weft.leaks._where import find_where

# In the order of weft::detail::LeakResource: the field of Checkers, and the error.
_RESOURCES: tuple[tuple[str, type[UnclosedResourceError]], ...] = (
    ("fds", UnclosedFdError),
    ("c_threads", UnclosedNativeThreadError),
    ("fibers", UnclosedFiberError),
    ("processes", UnclosedProcessError),
    ("files", UnclosedFileError),
    ("segments", UnclosedSegmentError),
)

# What must have been left behind by each of so many calls.
_CALLS = 3
# What a thread that was joined needs to vanish from the kernel's list.
_SETTLE = 0.2


def settle_python(trim: Callable[[], Any] | None = None) -> None:
    """Bring what Python keeps for itself to where it always is: streams written, caches empty, garbage collected."""
    if trim is not None:
        trim()
    streams: set[TextIO | None] = {sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__}
    for stream in streams:
        if stream is not None and not stream.closed:
            stream.flush()
    for handler in logging.root.handlers:
        handler.flush()
    sys.path_importer_cache.clear()
    linecache.cache.clear()
    gc.collect()
    for clear in ("_clear_internal_caches", "_clear_type_cache"):  # the former from 3.13 on
        if hasattr(sys, clear):
            getattr(sys, clear)()
            break


def _threads_left(before: int) -> bool:
    deadline = time.monotonic() + _SETTLE
    while threading.active_count() > before:
        if time.monotonic() > deadline:
            return True
        time.sleep(0.001)
    return False


def _left_by(caller: Caller, call: Callable[[], object], fun: Callable[..., Any], checkers: Checkers) -> dict[type, UnclosedResourceError]:
    """Calls once. What it left, by kind, the most telling first."""
    mask = sum(1 << i for i, (name, _) in enumerate(_RESOURCES) if getattr(checkers, name))
    threads = threading.active_count() if checkers.py_threads else 0
    known = set(threading.enumerate()) if checkers.py_threads else set()
    left: dict[type, UnclosedResourceError] = {}
    pid = os.getpid()
    before = _weft._LeakCensus(mask)
    caller.call(call)
    if os.getpid() != pid:
        sys.stderr.write(f"weft.leaks: {name_of(fun)!r} forked, and its child came back from it: this child ends here\n")
        os._exit(70)
    if checkers.py_threads and threading.active_count() > threads and _threads_left(threads):
        left[UnclosedPythonThreadError] = UnclosedPythonThreadError(
            threading.active_count() - threads, name_of(fun), [t for t in threading.enumerate() if t not in known])
    after = before.settled(_SETTLE)
    for i, (name, error) in enumerate(_RESOURCES):
        if getattr(checkers, name) and (count := after.count(i) - before.count(i)) > 0:
            left[error] = error(count, name_of(fun), [Left(*one) for one in after.fresh(before, i)])
    return left


def _left_by_collected(
    caller: Caller, call: Callable[[], object], fun: Callable[..., Any], checkers: Checkers
) -> dict[type, UnclosedResourceError]:
    """The same, with what only the garbage collector can free."""
    if not checkers.gcgarbage:
        return _left_by(caller, call, fun, checkers)
    with GCDebugger() as garbage:
        left = _left_by(caller, call, fun, checkers)
    try:
        garbage.check(fun)
    except UncollectableGarbageError as error:
        left[UncollectableGarbageError] = error.with_traceback(None)
    return left


def check_resources(caller: Caller, call: Callable[[], object], fun: Callable[..., Any], checkers: Checkers) -> None:
    """Call it once; if something is left, so often that it must be its habit. Raises UnclosedResourceError.

    What is opened once for all, as by a first call, is no leak.
    """
    left = _left_by_collected(caller, call, fun, checkers)
    for _ in range(_CALLS - 1):
        if not left:
            return
        again = _left_by_collected(caller, call, fun, checkers)
        left = {kind: error for kind, error in left.items() if kind in again}
    for error in left.values():
        raise error


def check_memory(
    call: Callable[[], object],
    fun: Callable[..., Any],
    options: Options,
    log: Callable[[str], None] | None = None,
    progress: Callable[[_weft._LeakTrial], None] | None = None,
) -> _weft._LeakTrial:
    """Run it until it is certain whether it leaks. Raises MemoryLeakError.

    `log` is called with the line of each run that grew, `progress` after each run: what they keep counts as the function's.
    """
    with limited(fun, options.call_limit) as caller:
        return _check_memory(caller, call, fun, options, log, progress)


def _check_memory(
    caller: Caller,
    call: Callable[[], object],
    fun: Callable[..., Any],
    options: Options,
    log: Callable[[str], None] | None,
    progress: Callable[[_weft._LeakTrial], None] | None,
) -> _weft._LeakTrial:
    caller.call(call, options.warmup_times)
    trial = _weft._LeakTrial(
        options.times, max(options.retries, 1), options.time_limit, options.memory_limit, tolerances(options.tolerance))
    try:
        settle_python(options.trim_callback)
        trial.start()
        undecided = True
        while undecided:
            calls = trial.next_calls()
            start = time.perf_counter()
            caller.call(call, calls)
            calling = time.perf_counter() - start
            settle_python(options.trim_callback)
            undecided = trial.add(calls, calling, time.perf_counter() - start)
            if trial.runs == 0:
                continue  # that was a single call, to see how long it takes
            if log is not None and "=+" in (line := trial.line(trial.runs)):
                log(line)
                del line
            if progress is not None:
                progress(trial)
        if trial.leaks:
            table = trial.table()
            where = find_where(caller, call, trial, options) if options.search else ""
            error = MemoryLeakError(f"memory kept increasing after {trial.runs} runs of {name_of(fun)!r}\n{table}{where}")
            error.table = table
            error.where = where
            error.svg = trial.svg(name_of(fun))
            error.calls, error.uncertain, error.exact = trial.calls, trial.cut_short, trial.counting
            raise error
        if log is not None and trial.runs > 5:
            log("Memory stabilized (no further growth detected)")
    finally:
        trial.close()  # allocations are watched until then, and this frame may live on in a traceback
    return trial


def check_all(
    call: Callable[[], object],
    fun: Callable[..., Any],
    options: Options,
    log: Callable[[str], None] | None = None,
    progress: Callable[[_weft._LeakTrial], None] | None = None,
) -> _weft._LeakTrial | None:
    """Everything that the options ask for. Raises the first Error; the trial tells of memory, where that was asked for."""
    options.validate()
    with limited(fun, options.call_limit) as caller:
        check_resources(caller, call, fun, options.checkers)
    return check_memory(call, fun, options, log, progress) if options.checkers.memory else None


@dataclass(frozen=True)
class Report:
    """What `check()` found."""

    error: Error | None
    """What would have been raised; None: it does not leak."""
    calls: int
    """In all runs of the check of memory; 0 where something else was found before."""
    uncertain: bool
    """Time or memory were used up before it was certain: what was seen until then decided."""
    exact: bool
    """Allocations were counted as they were made. Else the allocator's own figures had to do."""
    svg: str
    """The growth over the calls, as an SVG document; empty where memory was not looked at."""

    @property
    def leaks(self) -> bool:
        """Was anything found?"""
        return self.error is not None

    def __str__(self) -> str:
        return "no leak was found" if self.error is None else str(self.error)


def report_on(
    call: Callable[[], object],
    fun: Callable[..., Any],
    options: Options,
    progress: Callable[[_weft._LeakTrial], None] | None = None,
) -> Report:
    """What check_all() finds; `call` calls `fun`, whose name is told. Raises what the function raises."""
    try:
        trial = check_all(call, fun, options, progress=progress)
    except MemoryLeakError as error:
        return Report(error.with_traceback(None), error.calls, error.uncertain, error.exact, error.svg)
    except Error as error:
        return Report(error.with_traceback(None), 0, False, True, "")
    if trial is None:
        return Report(None, 0, False, True, "")
    return Report(None, trial.calls, trial.cut_short, trial.counting, trial.svg(name_of(fun)))


def warn_of_uncertainty(name: str) -> None:
    """RuntimeWarning: no leak was found, and that is not certain. Of who called our caller's caller."""
    warnings.warn(
        f"time or memory were used up before it was certain whether {name!r} leaks: raise time_limit", RuntimeWarning, stacklevel=3)


def check(fun: Callable[..., Any], *args: Any, options: Options | None = None, **changes: Any) -> Report:
    """Call a function again and again, and tell whether it leaks.

    `options`, with `changes` to it by name: `check(f, times=20, checkers=Checkers.only("memory"))`. Raises what the
    function raises; TypeError, ValueError: a wrong option; weft.Timeout: see `Options.call_limit`. Blocks for as long as the runs take; of fibers others run when
    the function waits, and what they allocate counts as its own, as with threads.
    """
    require_callable("fun", fun)
    require_repeatable("check()", fun)
    chosen = dataclasses.replace(options or Options(), **changes)
    if args:
        fun = functools.partial(fun, *args)

    def call() -> None:
        fun()

    return report_on(call, fun, chosen)
