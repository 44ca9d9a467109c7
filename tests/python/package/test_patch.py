"""patch(), and what a cancellation does to calls of others."""

import functools
import inspect
import os
import select
import socket
import subprocess
import sys
import threading
import time

import pytest

import weft


def lets_others_run(wait):
    times = []

    def body():
        times.append(time.monotonic())
        wait()

    waiter = weft.spawn(body)
    other = weft.spawn(lambda: times.append(time.monotonic()))
    waiter.join()
    other.join()
    return times[1] - times[0] < 0.015


def cooperative(wait):
    """Does wait(), of 20 ms, let other fibers run meanwhile? Now and then they may run just before it."""
    return all(lets_others_run(wait) for _ in range(5))


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    yield left, right
    left.close()
    right.close()


def nap():
    time.sleep(0.02)


def test_waits_park_only_while_patched():
    assert not cooperative(nap)
    weft.patch()
    try:
        assert weft.is_patched()
        assert cooperative(nap)
    finally:
        weft.unpatch()
    assert not weft.is_patched()
    assert not cooperative(nap)


def test_scopes():
    with weft.patched(only={"sleeping"}):
        assert cooperative(nap)
        assert not cooperative(lambda: select.select([], [], [], 0.02))
        with weft.patched(exclude={"sleeping"}):
            assert not cooperative(nap)
            assert cooperative(lambda: select.select([], [], [], 0.02))
        assert cooperative(nap)

    @weft.patched()
    def inside(x):
        """Documented."""
        return x, cooperative(nap)

    assert inside(3) == (3, True) and inside.__doc__ == "Documented."
    assert not cooperative(nap)


def test_threads_bring_locks_along():
    """Thread.start() waits for the new thread by a lock."""
    with weft.patched(only={"threads"}), weft.timeout(10):
        thread = threading.Thread(target=weft.yield_now)
        thread.start()
        thread.join()
    for scope in ({"exclude": {"locks"}}, {"only": {"threads"}, "exclude": {"locks"}}):
        for patch in (weft.patch, weft.patched):
            with pytest.raises(ValueError, match="exclude 'threads' as well"):
                patch(**scope)
    with weft.patched(exclude={"locks", "threads"}), weft.patched(only={"sleeping"}, exclude={"locks"}):
        pass


def test_libraries_are_left_alone():
    # Where the module is linked into the interpreter, that is what sleeps.
    library = os.path.basename(getattr(time, "__file__", None) or os.path.realpath("/proc/self/exe"))
    with weft.patched(exclude={f"{library}*", "libpython*.so*"}):
        assert not cooperative(nap)


def test_live_sockets_go_on(pair):
    left, right = pair
    left.send(b"before")
    with weft.patched():
        assert right.recv(10) == b"before"
        reader = weft.spawn(right.recv, 10)
        weft.yield_now()
        left.send(b"during")
        assert reader.result() == b"during"
    left.send(b"after")
    assert right.recv(10) == b"after"


def test_threads_become_fibers_and_are_named_by_unpatch():
    gate = threading.Event()
    weft.patch()
    thread = threading.Thread(target=gate.wait, name="stays")
    thread.start()
    weft.yield_now()
    with pytest.raises(weft.StillRunning) as raised:
        weft.unpatch(timeout=0.01)
    assert len(raised.value.fibers) == 1
    assert weft.is_patched()
    gate.set()
    thread.join()
    weft.unpatch(timeout=10)
    real = []
    os_thread = threading.Thread(target=lambda: real.append(weft.report()["fibers_alive"]))
    os_thread.start()
    os_thread.join()
    assert real == [0]


def test_misuse():
    with pytest.raises(RuntimeError, match="without a patch"):
        weft.unpatch()
    with pytest.raises(ValueError, match="the families are"):
        weft.patch(only={"socket"})
    with pytest.raises(ValueError, match="neither a family"):
        weft.patch(exclude={"grpc"})
    with pytest.raises(TypeError, match="several names"):
        weft.patch(only="sockets")
    for names in (3, {3}, None):
        with pytest.raises(TypeError, match="exclude takes names"):
            weft.patch(exclude=names)
    for names in (3, {3}):
        with pytest.raises(TypeError, match="only takes names"):
            weft.patch(only=names)
    weft.patch()
    try:
        with pytest.raises(TypeError, match="^a time in seconds must be a number, not str$"):
            weft.unpatch("x")
        with pytest.raises(ValueError, match="NaN"):
            weft.unpatch(float("nan"))
        assert weft.is_patched()
    finally:
        weft.unpatch()


def test_as_a_decorator_it_refuses_what_it_could_not_patch():
    async def coroutine():
        pass

    def generator():
        yield

    async def asynchronous_generator():
        yield

    for function in (coroutine, generator, asynchronous_generator, functools.partial(coroutine)):
        with pytest.raises(TypeError, match=r"`with weft.patched\(\):` inside"):
            weft.patched()(function)
    with pytest.raises(TypeError, match=r"parentheses: @weft.patched\(\)"):
        weft.patched(print)
    assert "only" in inspect.signature(weft.patched).parameters


def test_repr_tells_what_is_patched():
    assert repr(weft.patched()) == "<weft.patched: all>"
    text = repr(weft.patched(only={"polling", "sockets"}, exclude={"libgrpc*"}))
    assert text == "<weft.patched: sockets, polling; not by libgrpc*>"


def test_ctrl_c_while_leaving_keeps_count():
    program = """
import signal, threading, time, weft
signal.signal(signal.SIGALRM, signal.default_int_handler)

def interrupted(leave):
    thread = threading.Thread(target=time.sleep, args=(0.3,))
    thread.start()
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        leave()
    except KeyboardInterrupt:
        return
    raise SystemExit("not interrupted")

weft.patch()
interrupted(weft.unpatch)
if weft.is_patched():
    weft.unpatch()
try:
    weft.unpatch()
except RuntimeError as error:
    print(error)
scope = weft.patched()
scope.__enter__()
interrupted(lambda: scope.__exit__(None, None, None))
if weft.is_patched():
    scope.__exit__(None, None, None)
weft.patch()
weft.unpatch()
print(weft.is_patched())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("unpatch() without a patch()\nFalse\n", "")


def test_where_gevent_has_patched_it_says_so():
    pytest.importorskip("gevent")
    program = """
import gevent.monkey
gevent.monkey.patch_all()
import weft
try:
    weft.patch()
except RuntimeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "take gevent.monkey.patch_all() out" in done.stdout


def test_where_eventlet_has_patched_it_says_so():
    program = """
import eventlet
eventlet.monkey_patch()
import weft
for patch in (weft.patch, weft.patched().__enter__):
    try:
        patch()
    except RuntimeError as error:
        print(error)
print(weft.is_patched(), weft.running())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("take eventlet.monkey_patch() out") == 2
    assert done.stdout.splitlines()[-1] == "False False"


CALLS = {
    "recv": lambda s: s.recv(1),
    "makefile": lambda s: s.makefile("rb").readline(),
    "read": lambda s: os.read(s.fileno(), 1),
    "sleep": lambda s: time.sleep(1000),
    "select": lambda s: select.select([s], [], []),
    "poll": lambda s: _poll(s),
    "accept": lambda s: _accept(),
    "wait": lambda s: _wait_for_child(),
}


def _poll(s):
    poll = select.poll()
    poll.register(s, select.POLLIN)
    return poll.poll()


def _accept():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.accept()


def _wait_for_child():
    with subprocess.Popen(["sleep", "1000"]) as child:
        try:
            return child.wait()
        finally:
            child.kill()
            with weft.shield():
                child.wait()


@pytest.mark.parametrize("name", CALLS)
def test_a_cancelled_call_raises_cancelled_before_any_handler(name, pair):
    seen = []

    def body():
        try:
            CALLS[name](pair[0])
        except OSError:
            seen.append("handler")
        except BaseException as error:
            seen.append(type(error))
            raise
        finally:
            seen.append("finally")

    with weft.patched():
        fiber = weft.spawn(body)
        weft.sleep(0.02)
        fiber.cancel()
        fiber.join()
    assert seen == [weft.Cancelled, "finally"]
    assert fiber.cancelled()


@pytest.mark.parametrize("name", CALLS)
def test_a_timeout_reaches_into_calls(name, pair):
    with weft.patched():
        with pytest.raises(weft.Timeout):
            with weft.timeout(0.02):
                CALLS[name](pair[0])
        pair[1].send(b"x")
        assert pair[0].recv(1) == b"x"


def test_a_call_that_is_the_fibers_own_function(pair):
    with weft.patched(), weft.TaskGroup() as group:
        fiber = group.spawn(pair[0].recv, 1)
        weft.sleep(0.005)
        fiber.cancel()
    assert fiber.cancelled()


def test_a_handler_for_the_drivers_error_does_not_see_it(pair):
    """As a driver's reconnecting loop would."""
    attempts = []

    def reconnecting():
        while True:
            attempts.append(1)
            try:
                pair[0].recv(1)
            except OSError:
                continue

    with weft.patched():
        fiber = weft.spawn(reconnecting)
        weft.yield_now()
        fiber.cancel()
        fiber.join()
    assert attempts == [1]


def test_tracing_survives_a_cancelled_call(pair):
    events = []

    def trace(frame, event, argument):
        events.append(event)
        return trace

    def receive():
        with weft.timeout(0.005):
            pair[0].recv(1)

    def body():
        sys.settrace(trace)
        try:
            receive()
        except weft.Timeout:
            assert sys.gettrace() is trace
            return "timeout"
        finally:
            sys.settrace(None)

    with weft.patched():
        assert weft.spawn(body).result() == "timeout"
    assert "exception" in events


def test_no_tool_is_left_behind(pair):
    with weft.patched():
        with pytest.raises(weft.Timeout):
            with weft.timeout(0.001):
                pair[0].recv(1)
    if sys.version_info >= (3, 12):
        assert all(sys.monitoring.get_tool(number) != "weft" for number in range(6))
    assert sys.gettrace() is None


def test_a_lock_is_never_entered_unlocked():
    lock = threading.Lock()
    inside = []

    def body():
        with lock:
            inside.append(lock.locked())
        weft.sleep(1000)

    with weft.patched():
        lock.acquire()
        fiber = weft.spawn(body)
        weft.yield_now()
        fiber.cancel()
        fiber.join()
        assert lock.locked()
        lock.release()
    assert not inside and fiber.cancelled()


def test_busy_fibers_are_preempted():
    with weft.patched():
        flag = []

        def spin():
            while not flag:
                pass

        fibers = [weft.spawn(spin) for _ in range(2)]
        weft.sleep(0.05)
        flag.append(1)
        for fiber in fibers:
            fiber.join(timeout=20)
