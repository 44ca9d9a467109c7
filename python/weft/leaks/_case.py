"""MemoryLeakTestCase: leak tests for unittest, with psleak's API."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import unittest
from collections.abc import Callable
from typing import Any

import weft.leaks
from weft.leaks._check import check_all, check_memory, warn_of_uncertainty
from weft.leaks._checkers import Checkers
from weft.leaks._garbage import name_of
from weft.leaks._options import Options, require_callable, require_repeatable


class LeakTest:
    """One entry of `MemoryLeakTestCase.auto_generate()`: a function, its arguments, and options of `execute()`.

    TypeError: it is not callable.
    """

    def __init__(self, fun: Callable[..., Any], *args: Any, **execute_kwargs: Any) -> None:
        require_callable("fun", fun)
        self.fun: Callable[..., Any] = fun
        self.args: tuple[Any, ...] = args
        self.execute_kwargs: dict[str, Any] = execute_kwargs


class MemoryLeakTestCase(unittest.TestCase):
    """A test case whose `execute()` fails where a function leaks.

    psleak's class. The verdict is another: see the guide on leak tests.
    """

    warmup_times: int = 10
    """Calls before anything is measured."""
    times: int = 200
    """Calls in the first run; the runs after it are longer."""
    retries: int = 10
    """Runs after which growth is a leak; there may be more if it is not certain."""
    tolerance: int | dict[str, int] | None = 0
    """Growth in `times` calls that is no leak: bytes, or bytes by figure."""
    trim_callback: Callable[[], Any] | None = None
    """Called before each measurement, to empty caches."""
    checkers: Checkers = Checkers()
    """What is checked."""
    verbosity: int = 0
    """1: each run that grew is printed."""
    time_limit: float = 10.0
    """Seconds for the runs of one check. Without certainty by then, what was seen decides."""
    memory_limit: float = 256 * 1024 * 1024
    """Bytes that the process may grow by in one check."""
    call_limit: float = 60.0
    """Seconds in which one call has to return: see `Options.call_limit`."""
    python_malloc_required: bool = True
    """Where PYTHONMALLOC=malloc is not set, a check of memory that found nothing ends as skipped, as psleak's do.
    False: it ends as passed. Leaks of Python's own allocator are found in both cases, as blocks instead of bytes."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        entries = cls.auto_generate()
        if not isinstance(entries, dict):
            raise TypeError(f"{cls.__name__}.auto_generate must return a dict")
        for name, entry in entries.items():
            if not isinstance(entry, LeakTest):
                raise TypeError(f"{cls.__name__}.auto_generate()[{name!r}] must be a LeakTest")
            test_name = f"test_leak_{name}"
            if test_name in cls.__dict__:
                raise RuntimeError(f"{cls.__name__} already defines {test_name}")
            setattr(cls, test_name, _generated(name, test_name, entry))

    @classmethod
    def auto_generate(cls) -> dict[str, LeakTest]:
        """Tests to be made when the class is: each `name` becomes `test_leak_name`. To be overridden."""
        return {}

    def call(self, fun: Callable[[], Any]) -> Any:
        """Calls the function; to be overridden where more is to be done for each call."""
        return fun()

    def execute(
        self,
        fun: Callable[..., Any],
        *args: Any,
        warmup_times: int | None = None,
        times: int | None = None,
        retries: int | None = None,
        tolerance: int | dict[str, int] | None = None,
        trim_callback: Callable[[], Any] | None = None,
        checkers: Checkers | None = None,
    ) -> None:
        """Check a function; the options replace the class's attributes of the same name.

        Raises UnclosedResourceError, UncollectableGarbageError, MemoryLeakError, and what the function raises.
        TypeError, ValueError: a wrong option. unittest.SkipTest: see `python_malloc_required`.
        """

        def chosen(given: Any, name: str) -> Any:
            return getattr(self, name) if given is None else given

        require_callable("fun", fun)
        require_repeatable("execute()", fun)
        options = Options(
            warmup_times=chosen(warmup_times, "warmup_times"),
            times=chosen(times, "times"),
            retries=chosen(retries, "retries"),
            tolerance=chosen(tolerance, "tolerance"),
            time_limit=self.time_limit,
            memory_limit=self.memory_limit,
            call_limit=self.call_limit,
            trim_callback=chosen(trim_callback, "trim_callback"),
            checkers=chosen(checkers, "checkers"),
        )
        options.validate()
        weft.leaks._emit_warnings()
        if args:
            fun = functools.partial(fun, *args)

        def call() -> None:
            self.call(fun)

        check_all(call, fun, dataclasses.replace(options, checkers=dataclasses.replace(options.checkers, memory=False)))
        if not options.checkers.memory:
            return
        self._check_mem(call, fun, options)
        if self.python_malloc_required and os.environ.get("PYTHONMALLOC") != "malloc":
            raise unittest.SkipTest(
                "no leak was found, but PYTHONMALLOC=malloc was not set: of small Python objects only the number is "
                "known. Set it, or python_malloc_required = False"
            )

    def execute_w_exc(self, exc: type[BaseException] | tuple[type[BaseException], ...], fun: Callable[..., Any],
                      *args: Any, **kwargs: Any) -> None:  # fmt: skip
        """Check a function that is to raise `exc` in each call; fails where it does not."""
        require_callable("fun", fun)
        if args:
            fun = functools.partial(fun, *args)

        @functools.wraps(fun, assigned=("__name__", "__qualname__"), updated=())
        def call() -> None:
            try:
                self.call(fun)
            except exc:
                return
            self.fail(f"{name_of(fun)!r} did not raise {exc}")

        self.execute(call, **kwargs)

    def _check_mem(self, call: Callable[[], object], fun: Callable[[], Any], options: Options) -> None:
        trial = check_memory(call, fun, options, self._print if self.verbosity > 0 else None)
        if trial.cut_short:
            warn_of_uncertainty(name_of(fun))

    def _print(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _generated(name: str, test_name: str, entry: LeakTest) -> Callable[[MemoryLeakTestCase], None]:
    fun = functools.partial(entry.fun, *entry.args) if entry.args else entry.fun

    def test(self: MemoryLeakTestCase) -> None:
        self.execute(fun, **entry.execute_kwargs)

    test.__name__ = test.__qualname__ = test_name
    test.__doc__ = f"Auto-generated leak test for {name}"
    return test
