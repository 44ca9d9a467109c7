"""The package `weft`, on whichever interpreter runs pytest. No test may leave a fiber, a thread or a patch behind."""

import gc
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

import pytest

import weft
from weft import leaks


def let_others_run_until(condition, limit=20.0):
    """Lets others run until condition() holds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "what was waited for did not come"
        weft.yield_now()


def descriptors():
    """Those of the program: the engine's own, made when first used, lie above."""
    return {number for number in map(int, os.listdir("/proc/self/fd")) if number < 960 and is_open(number)}


def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False  # it was listdir()'s own
    return True


def _in_spawned(function, name=None):
    return weft.spawn(function, name=name).result()


def _in_thread(function, name=None):
    results = []
    with weft.patched():
        thread = threading.Thread(target=lambda: results.extend([_is_os_thread(), function()]), name=name)
        thread.start()
        thread.join()
    assert results[0] is False
    return results[1]


def _is_os_thread():
    return os.path.isdir(f"/proc/self/task/{threading.get_native_id()}")


@pytest.fixture(params=[_in_spawned, _in_thread], ids=["spawned", "thread"])
def run(request):
    """run(function, name=None): what it returns in a fiber of either kind."""
    return request.param


async def _nothing():
    pass


@pytest.fixture
def run_program():
    """run_program(text, *arguments): a program of its own, by this interpreter."""

    def run(text, *arguments):
        return subprocess.run([sys.executable, "-c", textwrap.dedent(text), *arguments], capture_output=True, text=True, timeout=60,
                              check=False)

    return run


@pytest.fixture
def until():
    return let_others_run_until


@pytest.fixture(autouse=True)
def nothing_is_left():
    weft.start()
    weft.run_async(_nothing())  # its loop stays
    before = descriptors(), threading.active_count()
    yield
    if "weft.actor._office" in sys.modules:  # after a fork, or where something was shared
        sys.modules["weft.actor._office"].shut()
    gc.collect()
    let_others_run_until(lambda: weft.report()["fibers_alive"] == 0)
    let_others_run_until(lambda: threading.active_count() == before[1])
    assert not weft.is_patched()
    assert descriptors() == before[0]


@pytest.fixture
def leaks_nothing(tmp_path, monkeypatch):
    """leaks_nothing(function, *names): fails where it leaves something behind, but by the checkers of those names. Its temporary
    files go into a folder of the test's."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    weft.start()
    gc.collect()
    gc.freeze()  # the many objects of pytest and its plugins would be looked through after each run

    def run(function, *names):
        report = leaks.check(function, times=50, time_limit=0.6, checkers=leaks.Checkers.exclude(*names))
        assert not report.leaks, str(report)

    yield run
    gc.unfreeze()
