"""What the pytest plugin does once a test is a leak test. Loaded then, and not before."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import logging
import os
import re
import shutil
import sys
import time
import unittest
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.logging import LogCaptureHandler

from weft.leaks._case import MemoryLeakTestCase
from weft.leaks._check import Report, report_on, warn_of_uncertainty
from weft.leaks._checkers import Checkers
from weft.leaks._errors import Error, MemoryLeakError
from weft.leaks._options import Options, require_callable, require_repeatable
from weft.leaks._repeat import IS_LEAK_TEST, numbered, options_of

# What the first run of a slow test may take of the time limit.
_FIRST_RUN = 0.25
_LEAST_CALLS = 5

_MOST_LINES = 30
_LONGEST_LINE = 200

_CAPTURES = ("capsys", "capsysbinary", "capfd", "capfdbinary")
# Fixtures that keep what is to be undone at the end, and the method that does it; the second is pytest-mock's.
_UNDOING = {"monkeypatch": "undo", "mocker": "stopall"}
_warned_of_xdist = pytest.StashKey[bool]()


def plan(item: pytest.Function) -> Options | None:
    """The options of the test, or None where it is to be run as ever. A wrong mark is a failure, by pytest.fail()."""
    exempt = item.get_closest_marker("no_leaks")
    if exempt is not None:
        reason = exempt.kwargs.get("reason", exempt.args[0] if len(exempt.args) == 1 else None)
        if not isinstance(reason, str) or not reason or len(exempt.args) + len(exempt.kwargs) != 1:
            pytest.fail(f"@pytest.mark.no_leaks of {item.nodeid}: it takes a reason, and nothing else", pytrace=False)
        return None
    if _is_leak_test(item):
        return None
    marks = list(item.iter_markers("leaks"))
    given: dict[str, Any] = {}
    for mark in reversed(marks):  # the closest one wins
        given.update(mark.kwargs)
    where = f"@pytest.mark.leaks of {item.nodeid}" if marks else f"--leaks: {item.nodeid}"
    try:
        for mark in marks:
            if mark.args:
                raise TypeError(f"{where}: options are given by name, as times=50, and not {mark.args[0]!r}")
        defaults = _defaults(item)
        if not marks:  # a test that has a class or a mock of its own leaves garbage, and that is no fault of what it tests
            defaults = dataclasses.replace(defaults, checkers=dataclasses.replace(defaults.checkers, gcgarbage=False))
        options = options_of(where, given, defaults)
        require_repeatable(where, item.obj)
        if isinstance(item.instance, getattr(sys.modules.get("unittest.async_case"), "IsolatedAsyncioTestCase", ())):
            raise TypeError(f"{where}: an IsolatedAsyncioTestCase cannot be run again")
        return options
    except (TypeError, ValueError) as error:
        text = str(error)
    if not marks:
        text += "; @pytest.mark.no_leaks(reason) has it run as ever"
    pytest.fail(text, pytrace=False)


class Repeated:
    """A test that is about to be called by pytest, and then again and again."""

    def __init__(self, item: pytest.Function, options: Options) -> None:
        self._item, self._options = item, options
        self._folder: Path | None = item._request.getfixturevalue("tmp_path") if "tmp_path" in item.fixturenames else None
        self._files = set(os.listdir(self._folder)) if self._folder else set()
        self._start = time.perf_counter()

    def function(self) -> None:
        """Calls it, with the same values of its fixtures."""
        item = self._item
        values = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
        self._run(lambda: item.obj(**values))

    def case(self) -> None:
        """Runs setUp(), the test, tearDown() and clean-ups, on the same object."""
        item: Any = self._item
        if getattr(item, "_excinfo", None):  # it failed, was skipped, or failed as expected
            return
        case: Any = item.instance
        if (late := getattr(item, "_explicit_tearDown", None)) is not None:  # with --pdb, which puts it off
            late()
            item._explicit_tearDown = None
            del case.tearDown
        result = _Outcome()

        def call() -> None:
            case.run(result)
            if (error := result.error) is not None:
                raise error

        self._run(call)

    def _run(self, call: Callable[[], object]) -> None:
        item, options = self._item, self._options
        counted = numbered(call)
        seconds = time.perf_counter() - self._start
        with _nothing_kept(item, options) as (options, drop):

            def call_and_drop() -> None:
                counted()
                drop()
                self._empty_folder()

            self._empty_folder()
            if seconds * options.times > options.time_limit * _FIRST_RUN:  # or was it the first call only?
                start = time.perf_counter()
                call_and_drop()
                options = _paced(item, options, time.perf_counter() - start)
            report = _watched(item, call_and_drop, item.obj, options)
        if report.error is not None:
            text = f"{item.nodeid} leaks:\n{_shortened(report.error)}"
            if path := _write_svg(item, report.error):
                text += f"\n\nIts growth: {path}"
            pytest.fail(text, pytrace=False)
        if report.uncertain:
            warn_of_uncertainty(item.nodeid)

    def _empty_folder(self) -> None:
        """A test that makes a folder in tmp_path cannot make it again."""
        if self._folder is None:
            return
        for name in os.listdir(self._folder):
            if name in self._files:
                continue
            path = self._folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def checker(item: pytest.Function) -> Callable[..., Report]:
    """What the fixture leak_check is."""

    def leak_check(fun: Callable[..., Any], *args: Any, **options: Any) -> Report:
        __tracebackhide__ = True
        require_callable("fun", fun)
        require_repeatable("leak_check()", fun)
        chosen = options_of("leak_check()", options, _defaults(item))
        with _nothing_kept(item, chosen) as (chosen, drop):

            def call() -> None:
                fun(*args)
                drop()

            call()
            report = _watched(item, numbered(call), fun, chosen)
        if report.error is not None:
            if path := _write_svg(item, report.error):
                report.error.add_note(f"Its growth: {path}")
            raise report.error
        return report

    return leak_check


class _Undone:
    """A fixture that keeps a list of what is to be undone at the end: here that is done after each call. Others may have
    the same object, so that it is its contents that are put aside meanwhile."""

    def __init__(self, fixture: Any, name: str, item: pytest.Function) -> None:
        self._fixture = fixture
        self._undo = _UNDOING[name]
        kind: Callable[..., Any] = type(fixture)
        self._new = kind if name == "monkeypatch" else functools.partial(kind, item.config)
        self._kept = dict(vars(fixture))
        self._renew()

    def _renew(self) -> None:
        vars(self._fixture).update(vars(self._new()))

    def undo(self) -> None:
        getattr(self._fixture, self._undo)()
        self._renew()

    def restore(self) -> None:
        getattr(self._fixture, self._undo)()
        vars(self._fixture).clear()
        vars(self._fixture).update(self._kept)


class _Outcome:
    """What unittest is told to report to: keeps the first failure, and no list of anything."""

    error: BaseException | None = None

    def startTest(self, test: unittest.TestCase) -> None:
        pass

    stopTest = addSuccess = startTest

    def addDuration(self, test: unittest.TestCase, elapsed: float) -> None:
        pass

    def addError(self, test: unittest.TestCase, error: Any) -> None:
        self.error = self.error or error[1]

    addFailure = addError

    def addExpectedFailure(self, test: unittest.TestCase, error: Any) -> None:
        pass

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.error = unittest.SkipTest(reason)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self.error = AssertionError("Unexpected success")


def _is_leak_test(item: pytest.Function) -> bool:
    """Is it one by itself?"""
    return (
        isinstance(item.instance, MemoryLeakTestCase)
        or hasattr(item.obj, IS_LEAK_TEST)
        or "leak_check" in item.fixturenames
    )


def _defaults(item: pytest.Function) -> Options:
    """Of the command line and the configuration."""
    options = Options()
    for name in ("times", "time_limit"):
        if (value := item.config.getoption(f"leaks_{name}")) is not None:
            options = dataclasses.replace(options, **{name: value})
    if "PYTEST_XDIST_WORKER" in os.environ:
        options = dataclasses.replace(options, checkers=Checkers.exclude("files", "segments"))
        if not item.config.stash.get(_warned_of_xdist, False):
            item.config.stash[_warned_of_xdist] = True
            warnings.warn(
                "leak tests under pytest-xdist do not look for files and shared memory that are left, as other workers"
                " make such too, and are less certain on a busy machine",
                RuntimeWarning,
                stacklevel=2,
            )
    return options


def _paced(item: pytest.Function, options: Options, seconds: float) -> Options:
    """A slow test is called less often, where nobody said how often."""
    given = item.config.getoption("leaks_times") is not None or any("times" in mark.kwargs for mark in item.iter_markers("leaks"))
    most = options.time_limit * _FIRST_RUN / max(seconds, 1e-9)
    if given or options.tolerance or most >= options.times:
        return options
    times = max(int(most), _LEAST_CALLS)
    return dataclasses.replace(options, times=times, warmup_times=min(options.warmup_times, times))


def _shortened(error: Error) -> str:
    """Its text. What was left behind may be thousands of things."""
    text = str(error).rstrip()
    if isinstance(error, MemoryLeakError):
        return text
    lines = [line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}..." for line in text.splitlines()]
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES:] = [f"... and {len(lines) - _MOST_LINES:,} more"]
    return "\n".join(lines)


def _watched(item: pytest.Function, call: Callable[[], object], fun: Callable[..., Any], options: Options) -> Report:
    """The report, with a line on the terminal until it is there."""
    with _ProgressLine(item.config) as line:
        return report_on(call, fun, options, line.show)


@contextlib.contextmanager
def _nothing_kept(item: pytest.Function, options: Options) -> Iterator[tuple[Options, Callable[[], None]]]:
    """What pytest keeps of each call (output, log, warnings) would grow with the calls. The function drops it, to be called
    after each of them; the options see to what may be dropped less often.

    What the first call left is kept, for the report.
    """
    manager: Any = item.config.pluginmanager.getplugin("capturemanager")
    request = item._request
    captures = [request.getfixturevalue(name) for name in _CAPTURES if name in item.fixturenames]
    recorded = request.getfixturevalue("recwarn") if "recwarn" in item.fixturenames else None
    handlers = [each for each in logging.getLogger().handlers if isinstance(each, LogCaptureHandler)]
    undoing = [_Undone(request.getfixturevalue(name), name, item) for name in _UNDOING if name in item.fixturenames]
    kept = manager.read_global_capture() if manager is not None else None

    def trim() -> None:
        if manager is not None:
            manager.read_global_capture()
        if options.trim_callback is not None:
            options.trim_callback()

    with contextlib.ExitStack() as stack:
        record: Any = recorded
        if record is None:
            record = stack.enter_context(warnings.catch_warnings(record=True))

        for fixture in undoing:
            stack.callback(fixture.restore)

        def drop() -> None:
            for fixture in undoing:
                fixture.undo()
            for capture in captures:
                capture.readouterr()
            for handler in handlers:
                if handler.records:
                    handler.clear()
            if record:
                record.clear()
            if recorded is not None:  # by default a warning comes once only from each place: this has it forgotten
                with warnings.catch_warnings():
                    pass

        drop()
        try:
            yield dataclasses.replace(options, trim_callback=trim), drop
        except BaseException:
            raise  # what the call that failed has written says why
        else:
            trim()
    if kept is not None:
        for section, text in (("stdout", kept.out), ("stderr", kept.err)):
            item.add_report_section("call", section, text)


class _ProgressLine:
    """Where a person looks on, what is being done. Nothing where nobody does.

    Behind what pytest has written, with the cursor left where it was: the dots stay, and pytest's own count of columns.
    """

    def __init__(self, config: pytest.Config) -> None:
        reporter: Any = config.pluginmanager.getplugin("terminalreporter")
        self._capture: Any = config.pluginmanager.getplugin("capturemanager")
        self._file: Any = None
        if reporter is None or not reporter.isatty or reporter.verbosity < -1 or os.environ.get("TERM") == "dumb":
            return
        writer = config.get_terminal_writer()
        self._room = writer.fullwidth - writer.width_of_current_line - 1
        if self._room > 10:
            self._file = getattr(writer, "_file", None)

    def __enter__(self) -> _ProgressLine:
        self._start = time.monotonic()
        self._write("  leak test ...")  # what writing allocates for good is there from now on
        return self

    def __exit__(self, *error: object) -> None:
        self._write("")

    def show(self, trial: Any) -> None:
        if self._file is not None:
            self._write(f"  leak test: {trial.calls:,} calls, {time.monotonic() - self._start:.1f} s")

    def _write(self, text: str) -> None:
        if self._file is None:
            return
        shown = contextlib.nullcontext() if self._capture is None else self._capture.global_and_fixture_disabled()
        with shown:
            self._file.write(f"\x1b7{text[: self._room]}\x1b[K\x1b8")
            self._file.flush()


def _write_svg(item: pytest.Function, error: Error) -> Path | None:
    """Where the growth was written, if that was asked for and there is any."""
    folder, svg = item.config.getoption("leaks_svg"), getattr(error, "svg", "")
    if not folder or not svg:
        return None
    path: Path = item.config.invocation_params.dir / folder / f"{_file_name(item.nodeid)}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg, encoding="utf-8")
    return path


def _file_name(nodeid: str) -> str:
    """Another one for each test: with a digest where characters are replaced or left out."""
    name = nodeid.replace("::", "-").replace("/", ".")
    safe = re.sub(r"[^\w.\-\[\]]", "_", name, flags=re.ASCII)[:120]
    return safe if safe == name else f"{safe}-{hashlib.sha256(nodeid.encode(errors='surrogateescape')).hexdigest()[:8]}"
