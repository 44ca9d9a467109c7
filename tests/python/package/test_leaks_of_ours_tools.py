"""weft.heap and weft.leaks: they leak nothing themselves.

CASES has what each function calls: test_leaks_of_ours.py compares that with what is public.
"""

import contextlib
import os
import tempfile
import unittest

import pytest

from public_calls import refuses
from weft import heap, leaks

MEMORY = leaks.Checkers.only("memory")


class Failed(Exception):
    pass


def fail():
    raise Failed


# --- weft.heap.


def figures():
    assert heap.allocator() == "glibc"
    assert isinstance(heap.info(), heap.Info) and isinstance(heap.heap_info(), heap.pheap)
    assert all(isinstance(arena, heap.Arena) and arena.fragmented >= 0 for arena in heap.arenas())
    assert isinstance(heap.python_info(), heap.PythonInfo)


def trimming():
    heap.trim()
    heap.heap_trim()


def profiles():
    with heap.Profile(interval=1, seed=5) as profile:
        assert bytearray(10_000)
        refuses(RuntimeError, heap.Profile().__enter__)
    sites = profile.sites()
    assert isinstance(sites[0], heap.Site) and isinstance(sites[0].frames[0], heap.Frame)
    folder = tempfile.gettempdir()
    for write, name in ((profile.write_pprof, "profile.pb.gz"), (profile.write_svg, "profile.svg")):
        write(os.path.join(folder, name))
        os.unlink(os.path.join(folder, name))
        refuses(OSError, write, os.path.join(folder, "nowhere", name))
    refuses(ValueError, profile.write_svg, "never.svg", measure="no such")
    refuses(ValueError, heap.Profile, interval=0)
    refuses(ValueError, heap.Profile, seed=-1)
    refuses(TypeError, heap.Profile, "many")


# --- weft.leaks. Of memory a check within a check counts for both: so what leaks there is let go at its end.


def a_check_that_finds_nothing():
    report = leaks.check(list, range(3), times=2, retries=1, warmup_times=0, checkers=MEMORY, search=False)
    assert isinstance(report, leaks.Report) and not report.leaks and str(report)
    assert not leaks.check(list, options=leaks.Options(checkers=leaks.Checkers.only("fds", "fibers"))).leaks


def a_check_that_finds_memory():
    kept = []
    # Without a search: tracemalloc, which that asks, loses blocks of its own at each stop.
    report = leaks.check(lambda: kept.append(bytearray(1000)), times=2, warmup_times=0, checkers=MEMORY, search=False)
    assert report.leaks and isinstance(report.error, leaks.MemoryLeakError) and isinstance(report.error, leaks.Error)


def a_check_that_finds_a_descriptor():
    opened = []
    checkers = leaks.Checkers.only("fds")
    error = leaks.check(lambda: opened.append(os.open("/dev/null", os.O_RDONLY)), checkers=checkers).error
    for each in opened:
        os.close(each)
    assert isinstance(error, leaks.UnclosedFdError) and isinstance(error, leaks.UnclosedResourceError)
    assert isinstance(error.extras[0], leaks.Left)


def checks_are_refused():
    refuses(TypeError, leaks.check, 5)
    refuses(ValueError, leaks.check, fail, times=0)
    refuses(TypeError, leaks.check, fail, no_such=1)
    refuses(Failed, leaks.check, fail)
    refuses(ValueError, leaks.Checkers.only, "no such")
    refuses(ValueError, leaks.Checkers.exclude, "no such")
    refuses(ValueError, leaks.Options(tolerance=-1).validate)
    refuses(TypeError, leaks.LeakTest, 5)
    refuses(TypeError, leaks.leak_test, 5)


@leaks.leak_test(times=2, warmup_times=0, checkers="memory")
def decorated():
    return [1]


def tests_by_decorator():
    decorated()
    assert leaks.leak_test(times=2)(list)


class Case(leaks.MemoryLeakTestCase):
    __test__ = False  # by itself
    times = 2
    warmup_times = 0
    python_malloc_required = False
    checkers = MEMORY

    def runTest(self):
        self.execute(list, range(3))
        self.execute_w_exc(Failed, fail)
        assert self.auto_generate() == {} and self.call(list) == []
        leaks.LeakTest(list, range(3))
        refuses(AssertionError, self.execute_w_exc, Failed, list)


def tests_of_unittest():
    result = unittest.TestResult()
    Case().run(result)
    assert result.wasSuccessful(), result.failures + result.errors


def garbage():
    with leaks.GCDebugger() as debugger:
        ring = []
        ring.append(ring)
        del ring
    assert not debugger.leaked_objects() and debugger.is_transient(5)
    debugger.check(list)
    debugger.after.append(debugger)
    refuses(leaks.UncollectableGarbageError, debugger.check, list)


def errors():
    for kind in (leaks.UnclosedFiberError, leaks.UnclosedFileError, leaks.UnclosedHandleError, leaks.UnclosedHeapCreateError,
                 leaks.UnclosedNativeThreadError, leaks.UnclosedProcessError, leaks.UnclosedPythonThreadError,
                 leaks.UnclosedSegmentError):
        with contextlib.suppress(kind):
            raise kind(1, "a function", [leaks.Left(1, "", "a text")])
    assert issubclass(kind, leaks.UnclosedResourceError)


CASES = {
    figures: "heap.allocator heap.info heap.Info heap.heap_info heap.pheap heap.arenas heap.Arena heap.Arena.fragmented"
    " heap.python_info heap.PythonInfo",
    trimming: "heap.trim heap.heap_trim",
    profiles: "heap.Profile heap.Profile.sites heap.Profile.write_pprof heap.Profile.write_svg heap.Site heap.Frame",
    a_check_that_finds_nothing: "leaks.check leaks.Report leaks.Report.leaks leaks.Options leaks.Checkers leaks.Checkers.only",
    a_check_that_finds_memory: "leaks.check leaks.Error leaks.MemoryLeakError",
    a_check_that_finds_a_descriptor: "leaks.check leaks.UnclosedFdError leaks.UnclosedResourceError leaks.Left",
    checks_are_refused: "leaks.check leaks.Checkers.only leaks.Checkers.exclude leaks.Options.validate leaks.LeakTest"
    " leaks.leak_test",
    tests_by_decorator: "leaks.leak_test",
    tests_of_unittest: "leaks.MemoryLeakTestCase",
    Case.runTest: "leaks.MemoryLeakTestCase.execute leaks.MemoryLeakTestCase.execute_w_exc leaks.MemoryLeakTestCase.call"
    " leaks.MemoryLeakTestCase.auto_generate leaks.LeakTest",
    garbage: "leaks.GCDebugger leaks.GCDebugger.check leaks.GCDebugger.is_transient leaks.GCDebugger.leaked_objects"
    " leaks.UncollectableGarbageError",
    errors: "leaks.UnclosedFiberError leaks.UnclosedFileError leaks.UnclosedHandleError leaks.UnclosedHeapCreateError"
    " leaks.UnclosedNativeThreadError leaks.UnclosedProcessError leaks.UnclosedPythonThreadError leaks.UnclosedSegmentError",
}
MODULE = ""
# Called by another.
INDIRECT = {Case.runTest}
UNCHECKED = {
    garbage: ["gcgarbage"],  # it uses the very same of the interpreter
    a_check_that_finds_a_descriptor: ["memory"],  # takes half a second a call
}


@pytest.mark.parametrize("case", [case for case in CASES if case not in INDIRECT], ids=lambda case: case.__name__)
def test_no_leak(case, leaks_nothing, monkeypatch):
    monkeypatch.setattr(leaks, "_warnings_emitted", True)
    leaks_nothing(case, *UNCHECKED.get(case, []))
