"""A fiber is a thread to the standard library: one of spawn(), and a threading.Thread where threads are patched."""

import contextvars
import gc
import io
import logging
import queue
import sys
import threading
import traceback
import warnings
import weakref

import pytest

import weft


def test_threading_knows_it(run):
    def look():
        me = threading.current_thread()
        weft.yield_now()
        assert threading.current_thread() is me and me is not threading.main_thread()
        assert me in threading.enumerate() and me.is_alive()
        assert me.ident == threading.get_ident()
        assert me.ident != threading.main_thread().ident
        me.name += "!"
        return me, threading.current_thread().name

    thread, name = run(look, name="of a name")
    assert name == "of a name!"
    assert thread not in threading.enumerate()


def test_locals_are_its_own_and_end_with_it(run):
    class Thing:
        pass

    local = threading.local()
    local.thing = "main"

    def look():
        assert not hasattr(local, "thing")
        local.thing = Thing()
        weft.yield_now()
        return weakref.ref(local.thing)

    gone = run(look)
    gc.collect()
    assert gone() is None
    assert local.thing == "main"


@pytest.mark.parametrize("kind", [queue.Queue, queue.LifoQueue, queue.PriorityQueue, queue.SimpleQueue])
def test_queues(run, kind):
    with weft.patched():
        there, back = kind(), kind()
        echo = weft.spawn(lambda: [back.put(there.get()) for _ in range(3)])

        def talk():
            with pytest.raises(queue.Empty):
                back.get(timeout=0.001)
            answers = []
            for item in range(3):
                there.put(item)
                answers.append(back.get())
            return answers

        assert run(talk) == [0, 1, 2]
        echo.result()


def test_contexts(run, request):
    variable = contextvars.ContextVar("variable", default="none")
    variable.set("main")

    def look():
        before = variable.get()
        variable.set("fiber")
        weft.yield_now()
        return before, variable.get()

    # A thread's is empty before CPython 3.14.
    inherited = {"spawned": "main", "thread": "none"}[request.node.callspec.id]
    assert run(look) == (inherited, "fiber")
    assert variable.get() == "main"
    others = [weft.spawn(contextvars.copy_context().run, look) for _ in range(3)]
    assert [other.result() for other in others] == [("main", "fiber")] * 3


def test_warnings(run):
    def warn():
        with warnings.catch_warnings(record=True) as inner:
            warnings.simplefilter("always")
            warnings.warn("kept", stacklevel=1)
        warnings.warn("from a fiber", DeprecationWarning, stacklevel=1)
        return [str(warning.message) for warning in inner]

    with warnings.catch_warnings(record=True) as outer:
        warnings.simplefilter("always")
        assert run(warn) == ["kept"]
    assert [(str(each.message), each.filename) for each in outer] == [("from a fiber", __file__)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        assert isinstance(weft.spawn(warn).exception(), DeprecationWarning)


def test_logging(run):
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    handler.setFormatter(logging.Formatter("%(threadName)s %(thread)d %(funcName)s %(message)s"))
    log = logging.Logger("weft-test")
    log.addHandler(handler)

    def speak():
        log.warning("hello")
        return threading.get_ident()

    ident = run(speak, name="speaker")
    log.warning("bye")
    main = f"{threading.current_thread().name} {threading.get_ident()} test_logging bye"
    assert told.getvalue().splitlines() == [f"speaker {ident} speak hello", main]


def test_tracebacks(run):
    def fail():
        weft.yield_now()
        raise ValueError("boom")

    def body():
        try:
            fail()
        except ValueError:
            weft.spawn(lambda: sys.exc_info()).join()
            return traceback.format_exc(), sys.exc_info()[0], weft.spawn(sys.exc_info).result()

    text, kind, of_another = run(body)
    assert text.count("  File ") == 2 and "in fail" in text and "in body" in text
    assert kind is ValueError and of_another == (None, None, None)


def test_hooks_for_failures(monkeypatch):
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda told: seen.append((told.thread.name, told.exc_type)))
    monkeypatch.setattr(sys, "unraisablehook", lambda told: seen.append((str(told.object)[:20], told.exc_type)))

    class Careless:
        def __del__(self):
            raise KeyError(threading.current_thread().name)

    def fail():
        careless = Careless()
        del careless
        raise ValueError

    with weft.patched():
        thread = threading.Thread(target=fail, name="thrower")
        thread.start()
        thread.join()
    assert [kind for _, kind in seen] == [KeyError, ValueError] and seen[1][0] == "thrower"
    seen.clear()
    weft.spawn(fail, name="thrower").join()
    assert [kind for _, kind in seen] == [KeyError, ValueError] and seen[1][0] == "<weft.Fiber 'thrower"
