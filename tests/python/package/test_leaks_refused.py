"""weft.leaks: functions that do not return, allocators that are two, time that is too short."""

import subprocess
import sys
import threading
import time

import pytest

import weft
from weft import leaks
from weft.leaks import Checkers, MemoryLeakTestCase, check

LATE = r"a call of '\w+' has not returned for 0\.2 s: raise call_limit"


def sleep_on():
    time.sleep(30)


def run_on():
    while True:
        pass


def wait_on():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@pytest.mark.parametrize("fun", [sleep_on, run_on, wait_on])
def test_a_function_that_never_returns(fun, capfd):
    start = time.monotonic()
    with pytest.raises(weft.Timeout, match=LATE):
        check(fun, call_limit=0.2)
    assert time.monotonic() - start < 5
    told = capfd.readouterr().err
    assert f"a call of '{fun.__name__}' has not returned" in told
    assert f"in {fun.__name__}" in told


@pytest.mark.parametrize("checkers", [Checkers.only("memory"), Checkers.exclude("memory")])
def test_each_kind_of_check_has_the_limit(checkers):
    calls = 0

    def late():
        nonlocal calls
        calls += 1
        if calls == 3:
            time.sleep(30)

    if checkers.memory:
        with pytest.raises(weft.Timeout):
            check(late, call_limit=0.2, checkers=checkers)
    else:
        with pytest.raises(weft.Timeout):
            check(sleep_on, call_limit=0.2, checkers=checkers)


def test_in_a_thread():
    found = []

    def other():
        with pytest.raises(weft.Timeout, match=LATE):
            check(run_on, call_limit=0.2)
        found.append(True)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(20)
    assert found


def test_in_fibers():
    def here():
        with pytest.raises(weft.Timeout, match=LATE):
            check(sleep_on, call_limit=0.2)
        return True

    weft.patch()
    try:
        assert weft.spawn(here).result()
        found = []
        thread = threading.Thread(target=lambda: found.append(here()))
        thread.start()
        thread.join(20)
        assert found == [True]
        assert here()
    finally:
        weft.unpatch()


def test_what_a_function_raises_in_time_is_its_own():
    def fail():
        raise weft.Timeout("its own")

    with pytest.raises(weft.Timeout, match="its own"):
        weft.spawn(lambda: check(fail, call_limit=5)).result()
    with pytest.raises(KeyboardInterrupt):
        check(lambda: (_ for _ in ()).throw(KeyboardInterrupt()), call_limit=5)


def test_the_limit_is_of_one_call():
    assert not check(lambda: time.sleep(0.01), call_limit=0.1, time_limit=0.5, warmup_times=30).leaks


def test_a_test_case_has_it():
    class Case(MemoryLeakTestCase):
        call_limit = 0.2

        def runTest(self):
            self.execute(sleep_on)

    result = Case().run()
    assert len(result.errors) == 1 and "weft.Timeout" in result.errors[0][1]


@pytest.mark.parametrize("limit, error", [(0, ValueError), (-1, ValueError), ("1", TypeError)])
def test_a_wrong_limit_is_refused(limit, error):
    with pytest.raises(error, match="call_limit"):
        check(sleep_on, call_limit=limit)


HALVES = """
#include <stddef.h>
void* __libc_malloc(size_t size);
void* malloc(size_t size) { return __libc_malloc(size); }
"""


def test_an_allocator_that_was_replaced_half_way_is_refused(tmp_path):
    library = tmp_path / "half.so"
    subprocess.run(["cc", "-x", "c", "-", "-shared", "-fPIC", "-o", library], input=HALVES, text=True, check=True)
    program = "from weft import leaks; leaks.check(len, 'abc')"
    done = subprocess.run(["env", f"LD_PRELOAD={library}", sys.executable, "-c", program], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 1
    assert f"NotImplementedError: weft.heap: this process's allocator was replaced half-way: malloc() is that of {library}" in done.stderr
    program = "from weft import leaks; print(leaks.check(len, 'abc', checkers=leaks.Checkers.exclude('memory')))"
    done = subprocess.run(["env", f"LD_PRELOAD={library}", sys.executable, "-c", program], capture_output=True, text=True, timeout=60,
                          check=True)
    assert done.stdout == "no leak was found\n"


def test_a_test_case_warns_where_the_time_was_too_short():
    class Case(MemoryLeakTestCase):
        python_malloc_required = False
        time_limit = 0.05
        warmup_times = 0

        def runTest(self):
            self.execute(time.sleep, 0.02, checkers=Checkers.only("memory"))

    with pytest.warns(RuntimeWarning, match="time or memory were used up before it was certain whether 'sleep' leaks"):
        result = Case().run()
    assert result.wasSuccessful()

    @leaks.leak_test(time_limit=0.05, warmup_times=0, checkers="memory")
    def slow():
        time.sleep(0.02)

    with pytest.warns(RuntimeWarning, match="used up before it was certain whether '.*slow' leaks"):
        slow()


@pytest.mark.parametrize("limit", [threading.TIMEOUT_MAX, float("inf"), 1e10])
def test_a_limit_beyond_all_times(limit):
    def nap():
        time.sleep(0.0001)

    assert not check(nap, call_limit=limit, time_limit=0.5).leaks
    weft.patch()
    try:
        assert not check(nap, call_limit=limit, time_limit=0.5).leaks
    finally:
        weft.unpatch()


def test_what_is_no_call_has_no_limit():
    assert not check(len, "abc", call_limit=0.1, trim_callback=lambda: time.sleep(0.2), time_limit=1).leaks


async def coroutine():
    pass


def generator():
    yield


@pytest.mark.parametrize("fun", [coroutine, generator])
def test_a_function_whose_call_runs_nothing_is_refused(fun):
    with pytest.raises(TypeError, match="a leak test takes plain ones"):
        check(fun)
    with pytest.raises(TypeError, match="a leak test takes plain ones"):
        MemoryLeakTestCase().execute(fun)
