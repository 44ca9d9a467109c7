"""spawn() and Fiber."""

import contextlib
import contextvars
import gc
import logging
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import pytest

import weft


def run_program(text, *, code=0):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    return done


def test_result_is_what_the_function_returned():
    assert weft.spawn(lambda a, b=0: a + b, 1, b=2).result() == 3


def test_result_raises_what_the_function_raised():
    def fail():
        raise ValueError("boom")

    fiber = weft.spawn(fail)
    for _ in range(2):
        with pytest.raises(ValueError, match="boom") as raised:
            fiber.result()
        assert raised.traceback[-1].name == "fail"
    assert isinstance(fiber.exception(), ValueError)


def test_asking_again_keeps_no_frames():
    def fail():
        raise ValueError("boom")

    class Local:
        pass

    def ask(fiber):
        local = Local()
        seen.append(weakref.ref(local))
        with contextlib.suppress(ValueError):
            fiber.result()

    seen = []
    fiber = weft.spawn(fail)
    for _ in range(3):
        ask(fiber)
    assert [reference() is None for reference in seen] == [True, True, False]


def test_states():
    gate = weft.Channel()
    fiber = weft.spawn(gate.receive, name="gatekeeper")
    assert not fiber.done()
    assert "'gatekeeper'" in repr(fiber) and "running" in repr(fiber)
    assert "test_fibers.py" in fiber.spawned_at and "test_states" in fiber.spawned_at
    gate.send(5)
    assert fiber.result() == 5
    assert fiber.done() and not fiber.cancelled() and fiber.exception() is None
    assert "done" in repr(fiber)
    assert not fiber.cancel()


def test_join_gives_up():
    gate = weft.Channel()
    fiber = weft.spawn(gate.receive)
    with pytest.raises(weft.Timeout):
        fiber.join(timeout=0.001)
    with pytest.raises(weft.Timeout):
        fiber.result(timeout=-1)
    gate.send(None)
    fiber.join(timeout=10)
    fiber.join()


def test_self_join_is_an_error():
    def join_itself():
        with pytest.raises(RuntimeError, match="its own end"):
            weft.current().join()
        return True

    assert weft.spawn(join_itself).result()


def test_cancel():
    fiber = weft.spawn(weft.sleep, 1000)
    weft.yield_now()
    assert fiber.cancel()
    with pytest.raises(weft.Cancelled):
        fiber.result()
    assert fiber.cancelled()


def test_cancelled_before_it_ran_it_does_not_run():
    ran, told = [], []
    fiber = weft.spawn(ran.append, True)
    fiber.add_done_callback(told.append)
    assert fiber.cancel()
    fiber.join()
    assert not ran and fiber.cancelled() and isinstance(fiber.exception(), weft.Cancelled)
    with pytest.raises(weft.Cancelled):
        fiber.result()
    assert told == [fiber]
    with weft.TaskGroup() as group:
        group.spawn(ran.append, True)
        group.cancel()
    assert not ran


def test_every_later_wait_is_cancelled_too_but_under_a_shield():
    seen = []

    def body():
        for _ in range(2):
            try:
                weft.sleep(1000)
            except weft.Cancelled:
                seen.append("cancelled")
        with weft.shield():
            weft.sleep(0.001)
            seen.append("cleaned")
        weft.sleep(1000)

    fiber = weft.spawn(body)
    weft.yield_now()
    fiber.cancel()
    fiber.join()
    assert seen == ["cancelled", "cancelled", "cleaned"]
    assert fiber.cancelled()


def test_callbacks(until):
    seen = []
    fiber = weft.spawn(lambda: 1)
    fiber.add_done_callback(lambda f: seen.append(f.result()))
    fiber.join()
    until(lambda: seen)
    fiber.add_done_callback(lambda f: seen.append(f is fiber))
    assert seen == [1, True]


def test_callbacks_have_the_context_of_who_added_them(until):
    variable = contextvars.ContextVar("variable", default="lost")
    seen = []

    def callback(fiber):
        seen.append(variable.get())
        variable.set("of the callback")

    gate = weft.Channel()
    fiber = weft.spawn(gate.receive)
    for value in ("first", "second"):
        variable.set(value)
        fiber.add_done_callback(callback)
    variable.set("third")
    gate.send(None)
    until(lambda: len(seen) == 2)
    fiber.add_done_callback(callback)
    assert seen == ["first", "second", "third"] and variable.get() == "third"


def test_callbacks_that_fail_are_told(monkeypatch, until):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda failure: told.append((failure.exc_type, failure.object)))

    def fail(fiber):
        raise KeyError(fiber.id)

    weft.spawn(int).add_done_callback(fail)
    until(lambda: told)
    assert told == [(KeyError, fail)]
    told.clear()


def test_weak_references():
    fiber = weft.spawn(int)
    gone = weakref.ref(fiber)
    fiber.join()
    assert gone() is fiber
    del fiber
    weft.yield_now()
    gc.collect()
    assert gone() is None


def test_misuse_names_the_fix():
    with pytest.raises(TypeError, match="not its call"):
        weft.spawn(weft.sleep(0))
    with pytest.raises(TypeError, match="takes a function"):
        weft.spawn()
    with pytest.raises(TypeError, match="name"):
        weft.spawn(print, name=3)
    with pytest.raises(TypeError, match="add_done_callback"):
        weft.spawn(int).add_done_callback(3)
    with pytest.raises(ValueError, match="NaN"):
        weft.sleep(float("nan"))
    for wait in (weft.sleep, weft.after):
        for seconds in ("1", None):
            with pytest.raises(TypeError, match="must be a number, not (str|NoneType)$"):
                wait(seconds)
    with pytest.raises(OverflowError, match=r"float\('inf'\)"):
        weft.sleep(10**400)
    with pytest.raises(ValueError, match="null character"):
        weft.spawn(int, name="a\0b")
    with pytest.raises(TypeError, match="^weft.Fiber is made by weft.spawn"):
        weft.Fiber()
    with pytest.raises(TypeError, match="^weft.Case is made by"):
        weft.Case()


def test_a_fiber_is_a_thread_to_who_looks():
    def look():
        return (
            threading.get_ident(),
            threading.current_thread().name,
            weft.current().name,
            sys._current_frames().keys(),
            logging.LogRecord("x", 1, "x", 1, "x", (), None).threadName,
        )

    ident, thread, name, frames, record = weft.spawn(look, name="a name of more than fifteen bytes").result()
    assert ident != threading.get_ident()
    assert thread == name == record == "a name of more than fifteen bytes"
    assert ident in frames


def test_the_next_fiber_in_the_same_place_has_its_own_thread_object():
    names = [weft.spawn(lambda: threading.current_thread().name, name=f"n{i}").result() for i in range(20)]
    assert names == [f"n{i}" for i in range(20)]


def test_thread_locals_are_the_fibers_own():
    local = threading.local()
    local.value = "main"

    def look():
        before = hasattr(local, "value")
        local.value = "fiber"
        weft.yield_now()
        return before, local.value

    assert weft.spawn(look).result() == (False, "fiber")
    assert local.value == "main"


def test_context_is_inherited_as_a_copy():
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(1)

    def look():
        seen = variable.get()
        variable.set(2)
        return seen

    fiber = weft.spawn(look)
    variable.set(3)
    assert fiber.result() == 1
    assert variable.get() == 3


def test_real_threads_spawn_join_and_are_waited_for(until):
    results = []

    def thread():
        results.append(weft.current())
        results.append(weft.spawn(lambda: 5).result())

    real = threading.Thread(target=thread)
    real.start()
    until(lambda: len(results) == 2)
    real.join()
    assert results == [None, 5]


def test_many():
    fibers = [weft.spawn(weft.sleep, 0.05) for _ in range(5000)]
    assert weft.report()["fibers_alive"] == 5000
    began = time.monotonic()
    for fiber in fibers:
        fiber.join()
    assert time.monotonic() - began < 10


def test_a_failure_nobody_asks_for_is_reported_once_with_its_spawn_site():
    done = run_program(
        """
        import weft

        def fail():
            raise ValueError("no disk")

        def start():
            weft.spawn(fail, name="writer").join()
            weft.spawn(weft.sleep, 1000).cancel()
            asked = weft.spawn(fail)
            asked.exception()

        start()
        """
    )
    assert done.stderr.count("ValueError: no disk") == 1
    assert "'writer'" in done.stderr and "in start" in done.stderr


def test_fibers_end_with_the_program():
    run_program(
        """
        import atexit, weft

        def forever():
            try:
                weft.sleep(1000)
            finally:
                print("never")

        weft.spawn(forever)
        weft.yield_now()

        @atexit.register
        def late():
            try:
                weft.spawn(print)
            except RuntimeError as error:
                print(error)
        """
    )


def test_first_use_off_the_main_thread_says_what_to_do():
    done = run_program(
        """
        import threading, weft

        def first():
            try:
                weft.spawn(print)
            except RuntimeError as error:
                print(error)

        thread = threading.Thread(target=first)
        thread.start()
        thread.join()
        """
    )
    assert "weft.start()" in done.stdout


def test_ctrl_c_ends_a_wait_of_the_main_thread():
    run_program(
        """
        import os, signal, threading, time, weft

        def press():
            weft.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)

        for wait in (lambda: weft.sleep(1000), weft.Channel().receive, lambda: weft.select(weft.Channel())):
            weft.spawn(press)
            try:
                wait()
            except KeyboardInterrupt:
                continue
            raise SystemExit("not interrupted")
        """
    )


def test_cycles_are_collected():
    class Held:
        pass

    import weakref

    held = Held()

    def body():
        return held

    fiber = weft.spawn(body)
    held.fiber = fiber
    fiber.join()
    gone = weakref.ref(held)
    del held, fiber, body
    gc.collect()
    assert gone() is None


def test_a_failure_in_a_cycle_is_reported_whole(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda failure: told.append(repr(failure.exc_value)))

    def start():
        error = ValueError("in a cycle")  # older than what has it, so it is cleared first

        def fail():
            held = fail  # noqa: F841: of the frame, which the error's traceback has
            raise error

        fail.fiber = weft.spawn(fail)
        fail.fiber.join()

    start()
    gc.collect()
    assert told == ["ValueError('in a cycle')"]


def test_to_thread_runs_elsewhere():
    here = threading.get_native_id()
    ran = []
    other = weft.spawn(ran.append, 1)
    assert weft.to_thread(lambda: (time.sleep(0.02), threading.get_native_id())[1]) != here
    assert ran == [1]
    other.join()
    with pytest.raises(ZeroDivisionError):
        weft.to_thread(lambda: 1 / 0)


def test_keywords_are_all_the_functions():
    def give(**keywords):
        return keywords

    every = {"function": 1, "args": 2, "kwargs": 3, "self": 4}
    assert weft.spawn(give, **every).result() == every
    assert weft.to_thread(give, **every) == every
    with weft.TaskGroup() as group:
        fiber = group.spawn(give, **every)
    assert fiber.result() == every


def test_fork_from_a_fiber():
    import os

    def fork():
        child = os.fork()
        if child == 0:
            os._exit(weft.spawn(lambda: 3).result())
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert weft.spawn(fork).result() == 3
