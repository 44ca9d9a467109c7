"""Waits for threading's locks, and for what is made of them, end as others do: by cancel() and by timeouts."""

import _thread
import concurrent.futures
import contextlib
import inspect
import queue
import threading

import pytest

import weft

FAR = 60


@pytest.fixture(autouse=True)
def cooperative(nothing_is_left):
    with weft.patched():
        yield


@contextlib.contextmanager
def held(lock):
    """The lock, held by another fiber."""
    taken, leave = weft.Channel(), weft.Channel()

    def hold():
        with lock:
            taken.send(None)
            leave.receive()

    holder = weft.spawn(hold)
    taken.receive()
    yield lock
    leave.send(None)
    holder.join()


def enter(lock):
    with lock:
        pytest.fail("entered a body without its lock")


@contextlib.contextmanager
def wait_of(kind):
    """A function that waits for ever, and what must hold when it has been ended."""
    if kind.startswith(("Lock", "RLock")):
        lock = threading.RLock() if kind.startswith("R") else threading.Lock()
        waits = {"acquire": lock.acquire, "acquire(True)": lambda: lock.acquire(True),
                 "acquire(timeout)": lambda: lock.acquire(True, FAR), "with": lambda: enter(lock)}
        with held(lock):
            yield waits[kind.partition(" ")[2]]
            assert not lock.acquire(False)
        assert lock.acquire(False)
        lock.release()
    elif kind == "Condition":
        condition = threading.Condition()

        def wait():
            with condition:
                try:
                    condition.wait()
                finally:
                    assert condition._is_owned()

        yield wait
        assert condition.acquire(False)
        condition.release()
        assert not condition._waiters
    elif kind == "Event":
        yield threading.Event().wait
    elif kind == "Semaphore":
        semaphore = threading.Semaphore(0)
        yield semaphore.acquire
        semaphore.release()
        assert semaphore.acquire(timeout=FAR)
    elif kind == "Barrier":
        barrier = threading.Barrier(2)
        yield barrier.wait
        assert barrier.n_waiting == 0
    elif kind == "Queue.get":
        items = queue.Queue()
        yield items.get
        items.put(1)
        assert items.get() == 1
    elif kind == "Queue.put":
        items = queue.Queue(1)
        items.put(1)
        yield lambda: items.put(2)
        assert items.get() == 1 and items.empty()
    elif kind.startswith("SimpleQueue"):
        items = queue.SimpleQueue()
        yield {"get": items.get, "get(True)": lambda: items.get(True), "get(timeout)": lambda: items.get(timeout=FAR),
               "get(block)": lambda: items.get(block=True, timeout=None)}[kind.partition(" ")[2]]
        items.put(1)
        assert items.get() == 1
    elif kind == "Future":
        yield concurrent.futures.Future().result


KINDS = ["Lock acquire", "Lock acquire(True)", "Lock acquire(timeout)", "Lock with", "RLock acquire",
         "RLock acquire(timeout)", "RLock with", "Condition", "Event", "Semaphore", "Barrier", "Queue.get", "Queue.put",
         "SimpleQueue get", "SimpleQueue get(True)", "SimpleQueue get(timeout)", "SimpleQueue get(block)", "Future"]


@pytest.mark.parametrize("kind", KINDS)
def test_cancel_ends_it(kind, until, capfd):
    with wait_of(kind) as wait:
        fiber = weft.spawn(wait)
        for _ in range(3):
            weft.yield_now()
        assert not fiber.done()
        fiber.cancel()
        with pytest.raises(weft.Cancelled):
            fiber.result(FAR)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_timeout_ends_it(kind, capfd):
    with wait_of(kind) as wait, pytest.raises(weft.Timeout), weft.timeout(0.005):
        wait()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_shield_keeps_cancellation_away(kind):
    with wait_of(kind) as wait:
        def shielded():
            with weft.shield(), weft.timeout(0.005):
                wait()

        fiber = weft.spawn(shielded)
        weft.yield_now()
        fiber.cancel()
        with pytest.raises(weft.Timeout):
            fiber.result(FAR)


def test_who_cleans_up_takes_locks():
    lock, cleaned = threading.Lock(), []

    def work():
        try:
            weft.sleep(FAR)
        finally:
            with lock:
                cleaned.append(True)

    fiber = weft.spawn(work)
    with held(lock):
        weft.yield_now()
        fiber.cancel()
        for _ in range(3):
            weft.yield_now()
        assert not cleaned and not fiber.done()
    with pytest.raises(weft.Cancelled):
        fiber.result(FAR)
    assert cleaned


def test_a_scope_within_the_clean_up_counts():
    lock, raised = threading.Lock(), []

    def work():
        try:
            weft.sleep(FAR)
        finally:
            with pytest.raises(weft.Timeout) as caught, weft.timeout(0.005):
                lock.acquire()
            raised.append(caught.type)

    fiber = weft.spawn(work)
    with held(lock):
        weft.yield_now()
        fiber.cancel()
        with pytest.raises(weft.Cancelled):
            fiber.result(FAR)
    assert raised == [weft.Timeout]


def test_what_is_there_is_taken_all_the_same():
    """Only a wait is ended: who need not wait goes on."""
    lock, items = threading.Lock(), queue.SimpleQueue()
    items.put(1)

    def work():
        with pytest.raises(weft.Cancelled):
            weft.sleep(FAR)
        with lock:
            return items.get()

    fiber = weft.spawn(work)
    weft.yield_now()
    fiber.cancel()
    assert fiber.result(FAR) == 1


def test_no_hand_over_is_lost():
    """A lock that was handed to a fiber which was cancelled at the same time goes to it, or to the next."""
    lock, taken = threading.Lock(), []

    def work(number):
        with lock:
            taken.append(number)
            weft.yield_now()

    for round in range(200):
        taken.clear()
        fibers = [weft.spawn(work, number) for number in range(6)]
        for _ in range(round % 4):
            weft.yield_now()
        victims = {number for number in range(6) if (round * 7 + number) % 3 == 0}
        for number in victims:
            fibers[number].cancel()
        for number, fiber in enumerate(fibers):
            assert fiber.exception(FAR) is None or number in victims
            assert fiber.cancelled() == (number not in taken)
    assert not lock.locked()


def test_arguments_mean_what_they_did():
    lock, items = threading.Lock(), queue.SimpleQueue()
    assert lock.acquire(timeout=1) and not lock.acquire(blocking=False) and not lock.acquire(timeout=0.001)
    for arguments in ((1, 2, 3), ("x", "y")):
        with pytest.raises(TypeError):
            lock.acquire(*arguments)
    for arguments in ((False, 1), (True, -2)):
        with pytest.raises(ValueError):
            lock.acquire(*arguments)
    with pytest.raises(OverflowError):
        lock.acquire(timeout=1e100)
    with pytest.raises(TypeError):
        lock.acquire(what=1)
    for call in (lambda: items.get(False), lambda: items.get(block=False), lambda: items.get(timeout=0.001)):
        with pytest.raises(queue.Empty):
            call()
    with pytest.raises(ValueError):
        items.get(timeout=-1)
    with pytest.raises(TypeError):
        items.get(1, 2, 3)
    lock.release()


def test_on_threads_that_are_no_fibers():
    """With threads left alone."""
    with weft.patched(exclude={"threads"}):
        lock, items = threading.Lock(), queue.SimpleQueue()
        lock.acquire()
        thread = threading.Thread(target=lambda: items.put(lock.acquire()))
        thread.start()
        lock.release()
        assert items.get() is True
        thread.join()


def test_join_of_a_thread_waits_until_it_ends():
    """Up to 3.12 threading takes a thread for dead whose join() was interrupted (CPython issue 90882)."""
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    fiber = weft.spawn(thread.join)
    weft.yield_now()
    fiber.cancel()
    for _ in range(3):
        weft.yield_now()
    assert thread.is_alive() and not fiber.done()
    leave.set()
    fiber.join(FAR)
    assert not thread.is_alive()


def test_looks_as_before():
    assert _thread.LockType.acquire.__doc__ and inspect.isroutine(threading.Lock().acquire)
