"""weft.leaks: what is found, what is not blamed, and what is said of it."""

import contextlib
import ctypes
import fcntl
import functools
import importlib.util
import io
import itertools
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import unittest
import warnings
from pathlib import Path

import pytest

import weft
from weft import leaks
from weft.leaks import Checkers, MemoryLeakTestCase, check

MEMORY = Checkers.only("memory")


@pytest.fixture(scope="session")
def leaky(tmp_path_factory):
    target = tmp_path_factory.mktemp("leaky") / f"leaky{sysconfig.get_config_var('EXT_SUFFIX')}"
    source = Path(__file__).with_name("leaky.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-I", sysconfig.get_paths()["include"], "-o", target, source], check=True)
    spec = importlib.util.spec_from_file_location("leaky", target)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- Memory.


@pytest.mark.parametrize("kind", ["reference", "small_object", "buffer", "buffer_only", "mapping", "thread"])
def test_the_classic_bugs_are_found_and_what_is_right_is_not_blamed(leaky, kind):
    function = getattr(leaky, kind)
    times = 20 if kind == "thread" else 200
    assert check(function, True, checkers=MEMORY, times=times).leaks
    report = check(function, False, checkers=MEMORY, times=times)
    assert not report.leaks, str(report)


@pytest.mark.parametrize("every", [1, 10, 100])
@pytest.mark.parametrize("size", [16, 64, 5000, 1 << 20])
def test_a_lost_block_is_found(leaky, size, every):
    report = check(leaky.block, True, size, every, checkers=MEMORY)
    assert report.leaks
    assert report.exact and not report.uncertain
    assert report.calls > 0


def test_a_report_of_a_leak_says_that_time_ran_out(leaky):
    def slow():
        leaky.block(True, 64, 1)
        time.sleep(0.05)

    report = check(slow, checkers=MEMORY, time_limit=0.3, warmup_times=0, search=False)
    assert report.leaks and report.uncertain and report.calls < 30


def test_the_error_path_is_looked_at(leaky):
    assert not check(leaky.error_path, 1, checkers=MEMORY).leaks

    def fails():
        with contextlib.suppress(ValueError):
            leaky.error_path(None)

    report = check(fails, checkers=MEMORY)
    assert "blocks grows by 1 blocks a call" in str(report)


def test_a_cache_that_fills_is_no_leak(leaky):
    assert not check(leaky.cache, checkers=MEMORY).leaks
    cache = functools.lru_cache(maxsize=3000)(lambda key: [key])
    keys = iter(range(10**9))
    assert not check(lambda: cache(next(keys)), checkers=MEMORY).leaks


def test_a_cache_without_bounds_is_one():
    cache = functools.cache(lambda key: [key])
    keys = iter(range(10**9))
    assert check(lambda: cache(next(keys)), checkers=MEMORY).leaks


def test_python_objects_are_seen_without_the_setting():
    kept = []
    report = check(lambda: kept.append(object()), checkers=MEMORY)
    assert "python grows by" in str(report)


@pytest.mark.parametrize(
    "function",
    [
        lambda: None,
        lambda: [str(i) for i in range(100)],
        lambda: io.StringIO("x" * 1000).read(),
        lambda: {i: [i] for i in range(50)},
        lambda: os.listdir("/proc/self/fd"),
        lambda: open("/dev/null").close(),
        lambda: sys.exc_info(),
        lambda: weft.spawn(lambda: None).join(),
        lambda: weft.sleep(0),
    ],
)
def test_clean_functions_are_not_blamed(function):
    report = check(function)
    assert not report.leaks, str(report)


def test_the_report_tells_how_much(leaky):
    report = check(leaky.block, True, 64, 1, checkers=MEMORY)
    text = str(report)
    assert text.startswith("memory kept increasing after 10 runs of 'block'\nRun # 1: heap=+")
    assert re.search(r"heap grows by 7\d\.\d bytes a call: at least 7\d\.\d, at most 7\d\.\d \(bounds of Sen's, for an error of 1 in 10,000\)", text)
    assert "(calls= 200, avg/call=+7" in text
    assert report.svg.startswith("<svg ") and "heap (leaks)" in report.svg
    assert isinstance(report.error, leaks.MemoryLeakError) and report.error.table in text


def line_of(text):
    return next(i for i, line in enumerate(Path(__file__).read_text().splitlines(), 1) if line.endswith(text))


def test_it_names_the_stack_that_loses_a_block(leaky):
    def loses_it():
        leaky.block(True, 64, 10)  # here it is lost

    error = check(loses_it, checkers=MEMORY).error
    where, _, stack = error.where.partition("\n")
    assert where == "allocated at, the innermost call first:"
    # A block may be a little larger than was asked for: what would be too small for another stays with it.
    assert re.match(r"  7\.\d+ bytes in 0\.1 blocks a call\n", stack)
    assert f'File "{__file__}", line {line_of("# here it is lost")} in ' in stack
    assert stack.rstrip().endswith(".loses_it") or stack.rstrip().endswith(" in loses_it")
    assert error.where in str(error)
    assert check(loses_it, checkers=MEMORY, search=False).error.where == ""


def test_it_names_the_line_that_keeps_an_object():
    kept = []

    def keeps_it():
        kept.append((1.5, len(kept)))  # here it is kept

    where = check(keeps_it, checkers=MEMORY).error.where
    assert "Python objects allocated at, the innermost call first:" in where
    assert f'File "{__file__}", line {line_of("# here it is kept")}\n' in where


def test_it_names_the_line_where_the_gil_was_let_go():
    strdup = ctypes.CDLL(None).strdup
    strdup.restype = ctypes.c_void_p

    def loses_it():
        strdup(b"what is lost")  # here without the GIL

    where = check(loses_it, checkers=MEMORY).error.where
    assert f'File "{__file__}", line {line_of("# here without the GIL")} in ' in where


def test_tolerance_is_growth_in_so_many_calls(leaky):
    lose = functools.partial(leaky.block, True, 64, 1)
    assert not check(lose, checkers=MEMORY, tolerance=200 * 80).leaks
    assert check(lose, checkers=MEMORY, tolerance=200 * 60).leaks
    assert not check(lose, checkers=MEMORY, tolerance={"heap": 200 * 80, "uss": 1e9, "rss": 1e9, "vms": 1e9}).leaks


def test_memory_limit_holds():
    kept = []
    report = check(lambda: kept.append(bytearray(1 << 20)), checkers=MEMORY, times=20, memory_limit=50 << 20)
    assert report.leaks
    assert len(kept) < 90  # 50, and two searches with a quarter each


# --- What is left open.


def left_over(fun, error, **options):
    report = check(fun, **options)
    assert type(report.error) is error, str(report)
    return report.error


def null_descriptors():
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/null":
                found.add(int(name))
    return found


def test_descriptors(leaky):
    before = null_descriptors()
    error = left_over(functools.partial(leaky.descriptor, True), leaks.UnclosedFdError)
    assert error.count == 1
    (left,) = error.extras
    assert left.path == "/dev/null"
    assert str(error) == (
        f"detected 1 unclosed file descriptor after calling 'descriptor' 1 time:\n* fd {left.number}: /dev/null")
    assert not check(leaky.descriptor, False).leaks
    for fd in null_descriptors() - before:
        os.close(fd)


def test_what_is_opened_once_is_no_leak():
    opened = []

    def first_time():
        if not opened:
            opened.append(open("/dev/null"))

    assert not check(first_time).leaks
    opened[0].close()


def test_python_threads():
    go, threads = threading.Event(), []

    def start():
        threads.append(threading.Thread(target=go.wait))
        threads[-1].start()

    error = left_over(start, leaks.UnclosedPythonThreadError)
    assert error.extras == [threads[0]]
    go.set()
    for thread in threads:
        thread.join()


def test_a_thread_that_is_about_to_end_is_no_leak():
    assert not check(lambda: threading.Thread(target=lambda: None).start(), checkers=Checkers.exclude("memory")).leaks


def test_fibers():
    channel, fibers = weft.Channel(), []
    error = left_over(lambda: fibers.append(weft.spawn(channel.receive, name="stuck")), leaks.UnclosedFiberError)
    assert "stuck" in str(error)
    channel.close()
    for fiber in fibers:
        with contextlib.suppress(weft.Closed):
            fiber.result()


def test_processes():
    children = []
    error = left_over(lambda: children.append(subprocess.Popen(["true"])), leaks.UnclosedProcessError)
    assert f"process {children[0].pid}: true" in str(error) and "1 unclosed child process " in str(error)
    for child in children:
        child.wait()


def test_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)

    def make():
        fd, _ = tempfile.mkstemp()
        os.close(fd)

    error = left_over(make, leaks.UnclosedFileError)
    assert str(tmp_path) in str(error)


def test_segments():
    names = (f"/dev/shm/weft-test-{os.getpid()}-{i}" for i in itertools.count())
    made = []

    def make():
        made.append(next(names))
        with open(made[-1], "x"):
            pass

    with open(__file__) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # what another interpreter's run of this makes would be seen, too
        error = left_over(make, leaks.UnclosedSegmentError, checkers=Checkers.only("segments"))
        for name in made:
            os.unlink(name)
    assert str(error).endswith(f"\n* {made[0]}")


def test_garbage():
    def make():
        ring = type("Ring", (), {})()
        ring.itself = ring

    error = left_over(make, leaks.UncollectableGarbageError, checkers=Checkers.only("gcgarbage"))
    assert "Ring object" in str(error)


# --- Wrong use.


def test_functions_that_cannot_be_tested():
    with pytest.raises(TypeError, match="'fun' must be instance of Callable .got 5.: pass the function, not its result"):
        check(5)
    with pytest.raises(ZeroDivisionError):
        check(lambda: 1 / 0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"times": 0}, "times must be >= 1 .got 0."),
        ({"warmup_times": -1}, "warmup_times must be >= 0"),
        ({"retries": -1}, "retries must be >= 0"),
        ({"tolerance": -1}, "tolerance must be >= 0"),
        ({"tolerance": {"hap": 1}}, "invalid tolerance key 'hap': there are heap, "),
        ({"time_limit": 0}, "time_limit must be > 0"),
        ({"memory_limit": -5}, "memory_limit must be > 0"),
    ],
)
def test_options_out_of_range(options, text):
    with pytest.raises(ValueError, match=text):
        check(lambda: None, **options)


@pytest.mark.parametrize(
    "options", [{"times": "1"}, {"times": True}, {"tolerance": "1"}, {"checkers": 1}, {"trim_callback": 5}, {"no_such": 1}])
def test_options_of_a_wrong_type(options):
    with pytest.raises(TypeError):
        check(lambda: None, **options)


def test_checkers_name_what_there_is():
    with pytest.raises(ValueError, match="invalid checker names: fd; there are memory, fds,"):
        Checkers.only("fd")


def test_a_child_that_comes_back_from_a_fork_ends_and_is_told_of():
    code = """
        import os
        from weft import leaks
        report = leaks.check(os.fork)
        print(type(report.error).__name__)
    """
    done = subprocess.run([sys.executable, "-c", "\n".join(line.strip() for line in code.splitlines())],
                          capture_output=True, text=True, check=True)
    assert done.stdout == "UnclosedProcessError\n"
    assert "'fork' forked, and its child came back from it: this child ends here" in done.stderr


# --- unittest.


class Case(MemoryLeakTestCase):
    __test__ = False  # by itself
    times = 50
    kept: list = []

    def runTest(self):
        self.execute(lambda: self.kept.append(bytearray(100)))


def test_a_case_fails_as_unittest_has_it(monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = unittest.TestResult()
        Case().run(result)
    assert len(result.failures) == 1 and "memory kept increasing" in result.failures[0][1]


def test_without_the_setting_a_case_says_so_only_where_nothing_was_found(monkeypatch):
    monkeypatch.delenv("PYTHONMALLOC", raising=False)
    monkeypatch.setattr(leaks, "_warnings_emitted", True)

    case = Case()
    with pytest.raises(leaks.MemoryLeakError):
        case.execute(lambda: Case.kept.append(object()))
    with pytest.raises(unittest.SkipTest, match="PYTHONMALLOC=malloc was not set"):
        case.execute(lambda: None)
    case.python_malloc_required = False
    case.execute(lambda: None)


def test_what_is_printed(capsys, monkeypatch):
    monkeypatch.setattr(leaks, "_warnings_emitted", True)
    case = Case()
    case.verbosity = 1
    with pytest.raises(leaks.MemoryLeakError):
        case.runTest()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and all(line.startswith("Run #") for line in lines)
