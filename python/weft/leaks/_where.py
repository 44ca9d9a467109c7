"""Which code allocates what is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from weft import _weft

if TYPE_CHECKING:
    import tracemalloc

    from weft.leaks._caller import Caller
    from weft.leaks._options import Options

_PYTHON = 3  # of weft::detail::LeakMetric
_MOST = 5


def _runs(caller: Caller, call: Callable[[], object], calls: int, end: float, after: Callable[[], object]) -> None:
    for _ in range(_weft._leak_search_runs):
        caller.call(call, calls)
        after()
        if time.monotonic() > end:
            break


def _native(caller: Caller, call: Callable[[], object], calls: int, end: float) -> str:
    """By the stacks of malloc() and its kin."""
    if not _weft._leak_search_begin():
        return ""
    try:
        _weft._leak_search_mark()
        _runs(caller, call, calls, end, _weft._leak_search_mark)
        return _weft._leak_search_text(calls)
    finally:
        _weft._leak_search_end()


def _python(caller: Caller, call: Callable[[], object], calls: int, end: float) -> str:
    """By the lines of Python at which CPython's own allocator was asked."""
    import tracemalloc  # 10 ms, and only for what leaks

    if tracemalloc.is_tracing():
        return ""  # the program's own traces would be lost
    tracemalloc.start(8)
    try:
        caller.call(call, calls)
        before = tracemalloc.take_snapshot()
        done = 0

        def count() -> None:
            nonlocal done
            done += calls

        _runs(caller, call, calls, end, count)
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    ours = (tracemalloc.Filter(False, __file__), tracemalloc.Filter(False, tracemalloc.__file__))
    lines = after.filter_traces(ours).compare_to(before.filter_traces(ours), "traceback")
    grown = [line for line in lines if line.count_diff * 200 >= done]
    if not grown:
        return ""
    text = "Python objects allocated at, the innermost call first:\n"
    for line in grown[:_MOST]:
        text += f"  {line.size_diff / done:.4g} bytes in {line.count_diff / done:.3g} blocks a call\n" + _stack(line)
    return text + (f"  and {len(grown) - _MOST} more\n" if len(grown) > _MOST else "")


def _stack(line: tracemalloc.StatisticDiff) -> str:
    text = ""
    for frame in reversed(line.traceback):
        if "weft/leaks/_" in frame.filename:
            break
        text += f'    File "{frame.filename}", line {frame.lineno}\n'
    return text


def find_where(caller: Caller, call: Callable[[], object], trial: _weft._LeakTrial, options: Options) -> str:
    """Call it some more, with every allocation sampled: for about half of `time_limit`, and one run beyond that at most for
    each allocator where sampling makes it slower."""
    calls = trial.search_calls()
    text = _native(caller, call, calls, time.monotonic() + options.time_limit / 4)
    if trial.growth(_PYTHON)[3]:
        text += _python(caller, call, calls, time.monotonic() + options.time_limit / 4)
    return text
