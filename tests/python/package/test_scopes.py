"""timeout, shield, TaskGroup, map."""

import contextlib
import gc
import signal
import subprocess
import sys
import time
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft


def test_timeout_ends_a_wait():
    with pytest.raises(weft.Timeout) as raised:
        with weft.timeout(0.001) as scope:
            weft.sleep(1000)
    assert scope.expired and isinstance(raised.value, TimeoutError)
    with weft.timeout(1000) as scope:
        assert 999 < scope.remaining <= 1000
    assert not scope.expired
    with weft.timeout(None) as scope:
        assert scope.remaining is None


def test_the_nearest_deadline_counts():
    with pytest.raises(weft.Timeout):
        with weft.timeout(0.001) as outer:
            with weft.timeout(1000) as inner:
                weft.sleep(2000)
    assert outer.expired and not inner.expired
    with weft.timeout(1000):
        with pytest.raises(weft.Timeout):
            with weft.timeout(0.001):
                weft.sleep(2000)
        weft.sleep(0.001)


def test_reentrant():
    scope = weft.timeout(1000)
    with scope:
        with scope:
            weft.sleep(0.001)
        weft.sleep(0.001)
    with pytest.raises(RuntimeError, match="left more often"):
        scope.__exit__(None, None, None)


def test_of_one_fiber_at_a_time():
    for scope in (weft.timeout(1000), weft.shield()):
        with scope:
            fiber = weft.spawn(scope.__enter__)
            with pytest.raises(RuntimeError, match="make one for each"):
                fiber.result()
        assert weft.spawn(_enter_and_leave, scope).result()
    soon = weft.timeout(0.01)
    with soon, pytest.raises(RuntimeError):
        weft.spawn(soon.__enter__).result()
    weft.sleep(0.02)  # no deadline is left behind


def _enter_and_leave(scope):
    with scope:
        return True


def test_scopes_tell_their_state():
    scope = weft.timeout(1000)
    assert repr(scope) == "<weft.timeout of 1000 s, not entered>"
    with scope:
        assert "s left" in repr(scope)
    with pytest.raises(weft.Timeout), weft.timeout(0.001) as scope:
        weft.sleep(1)
    assert repr(scope) == "<weft.timeout of 0.001 s, expired>"
    assert repr(weft.timeout(None)) == "<weft.timeout without a deadline>"
    shield = weft.shield()
    assert repr(shield) == "<weft.shield, not entered>"
    with shield:
        assert repr(shield) == "<weft.shield, entered>"


def test_a_scope_may_be_the_first_use():
    """Ctrl-C ends the wait inside."""
    program = """
import signal, time, weft
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.1)
began = time.monotonic()
try:
    with SCOPE:
        weft.sleep(20)
except KeyboardInterrupt:
    print(time.monotonic() - began < 10)
"""
    for scope in ("weft.shield()", "weft.timeout(60)"):
        done = subprocess.run([sys.executable, "-c", program.replace("SCOPE", scope)], capture_output=True, text=True,
                              timeout=60, check=True)
        assert done.stdout == "True\n", scope


def test_negative_and_bad_times():
    with pytest.raises(weft.Timeout):
        with weft.timeout(-1):
            weft.sleep(1)
    with pytest.raises(ValueError):
        weft.timeout(float("nan"))
    with pytest.raises(TypeError):
        weft.timeout("soon")
    with pytest.raises(OverflowError, match="'inf'"):
        weft.timeout(10**400)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_of_nested_scopes_those_are_expired_whose_time_is_up(milliseconds):
    scopes = [weft.timeout(m / 1000) for m in milliseconds]

    def enter(rest):
        if not rest:
            weft.sleep(1000)
        with rest[0]:
            enter(rest[1:])

    with pytest.raises(weft.Timeout):
        enter(scopes)
    nearest = milliseconds.index(min(milliseconds))
    assert scopes[nearest].expired


def test_shield_keeps_an_outer_deadline_out():
    with pytest.raises(weft.Timeout):
        with weft.timeout(0.001):
            with weft.shield():
                weft.sleep(0.01)
            weft.sleep(1000)


def test_group_waits():
    done = []
    with weft.TaskGroup() as group:
        for i in range(5):
            group.spawn(lambda i=i: (weft.sleep(0.001), done.append(i)))
    assert sorted(done) == [0, 1, 2, 3, 4]


def test_first_failure_cancels_the_rest_and_the_block():
    def fail():
        raise ValueError("x")

    with pytest.raises(ExceptionGroup) as raised:
        with weft.TaskGroup() as group:
            sleeper = group.spawn(weft.sleep, 1000, name="sleeper")
            group.spawn(fail)
            weft.sleep(1000)
            pytest.fail("the block's wait was not ended")
    assert [type(e) for e in raised.value.exceptions] == [ValueError]
    assert sleeper.cancelled() and sleeper.name == "sleeper"
    assert "test_scopes.py" in sleeper.spawned_at
    weft.sleep(0.001)  # its owner goes on


def test_the_blocks_own_failure_cancels_and_is_raised():
    with pytest.raises(ExceptionGroup) as raised:
        with weft.TaskGroup() as group:
            fiber = group.spawn(weft.sleep, 1000)
            raise KeyError("own")
    assert [type(e) for e in raised.value.exceptions] == [KeyError]
    assert fiber.cancelled()


def test_cancelled_owner_takes_its_group_along():
    children = []

    def own():
        with weft.TaskGroup() as group:
            children.append(group.spawn(weft.sleep, 1000))

    owner = weft.spawn(own)
    weft.yield_now()
    weft.yield_now()
    owner.cancel()
    owner.join()
    assert owner.cancelled() and children[0].cancelled()


def test_timeout_around_a_group():
    with pytest.raises(weft.Timeout):
        with weft.timeout(0.001), weft.TaskGroup() as group:
            child = group.spawn(weft.sleep, 1000)
    assert child.cancelled()


def test_group_cancel_ends_its_block_quietly():
    with weft.TaskGroup() as group:
        child = group.spawn(weft.sleep, 1000)
        group.cancel()
        weft.sleep(1000)
    assert child.cancelled()


def test_group_misuse():
    group = weft.TaskGroup()
    with pytest.raises(RuntimeError, match="with"):
        group.spawn(print)
    with group:
        pass
    with pytest.raises(RuntimeError, match="another"):
        group.__enter__()


def test_group_has_ended_with_its_block():
    with weft.TaskGroup() as group:
        group.spawn(weft.yield_now)
    with pytest.raises(RuntimeError, match="has ended: spawn into another"):
        group.spawn(print)
    group.cancel()
    weft.sleep(0.001)  # who had it is not cancelled
    with pytest.raises(RuntimeError, match="left once"):
        group.__exit__(None, None, None)


def test_a_cancellation_of_others_leaves_the_block_as_it_is():
    elsewhere = weft.spawn(weft.sleep, 1000)
    elsewhere.cancel()
    with pytest.raises(weft.Cancelled):
        with weft.TaskGroup() as group:
            child = group.spawn(weft.sleep, 1000)
            elsewhere.result()
    assert child.cancelled()

    def own():
        with weft.TaskGroup() as group:
            weft.current().cancel()
            group.cancel()
            weft.sleep(1000)

    owner = weft.spawn(own)
    owner.join()
    assert owner.cancelled()


def test_a_failure_is_listed_once():
    def fail():
        weft.yield_now()
        raise ValueError("once")

    with pytest.raises(ExceptionGroup) as raised:
        with weft.TaskGroup() as group:
            group.spawn(fail).result()
    assert len(raised.value.exceptions) == 1


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_program_comes_out_of_a_group_bare(kind):
    def end():
        raise kind(3)

    with pytest.raises(kind) as raised:
        with weft.TaskGroup() as group:
            group.spawn(end)
            other = group.spawn(weft.sleep, 1000)
    assert raised.value.args == (3,) and other.cancelled()


class Interruption(Exception):
    pass


@contextlib.contextmanager
def interrupted_after(seconds, kind):
    def handle(number, frame):
        raise kind

    former = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Interruption])
def test_a_signals_handler_that_raises_leaves_no_member_behind(kind):
    def work():
        try:
            weft.sleep(1000)
        finally:
            with weft.shield():
                weft.sleep(0.01)

    fibers = []
    with interrupted_after(0.02, kind), pytest.raises((KeyboardInterrupt, ExceptionGroup)) as raised:
        with weft.TaskGroup() as group:
            fibers += [group.spawn(work) for _ in range(5)]
    assert all(fiber.cancelled() for fiber in fibers)
    if kind is KeyboardInterrupt:
        assert raised.type is KeyboardInterrupt
    else:
        assert [type(error) for error in raised.value.exceptions] == [Interruption]


def test_a_second_one_does_not_either():
    def work():
        try:
            weft.sleep(1000)
        finally:
            with weft.shield():
                weft.sleep(0.05)

    with interrupted_after(0.01, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        try:
            with weft.TaskGroup() as group:
                fiber = group.spawn(work)
        finally:
            assert fiber.cancelled()
            signal.setitimer(signal.ITIMER_REAL, 0)


def test_groups_and_cases_are_collected():
    class Held:
        pass

    gone = []

    def fail_in_the_block():
        held = Held()
        gone.append(weakref.ref(held))
        with weft.TaskGroup() as group:
            group.spawn(weft.yield_now)
            raise ValueError

    def fail_in_a_fiber():
        held = Held()
        gone.append(weakref.ref(held))
        with weft.TaskGroup() as group:

            def child():
                assert held and group
                raise ValueError

            group.spawn(child)

    def never_left():
        held = Held()
        gone.append(weakref.ref(held))
        held.group = weft.TaskGroup()
        held.group.held = held

    def case():
        held = Held()
        gone.append(weakref.ref(held))
        held.case = weft.sending(weft.Channel(), held)

    for make in (fail_in_the_block, fail_in_a_fiber, never_left, case):
        try:
            make()
        except* ValueError:
            pass
    gc.collect()
    assert [reference() for reference in gone] == [None] * 4


def in_os_thread(function):
    return weft.to_thread(function)


def test_a_timeout_that_could_end_nothing_is_refused():
    def bounded(seconds):
        with weft.timeout(seconds):
            return "entered"

    with pytest.raises(RuntimeError, match="in a fiber"):
        in_os_thread(lambda: bounded(1))
    assert in_os_thread(lambda: bounded(None)) == "entered"
    assert weft.spawn(bounded, 1).result() == "entered"


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("concurrency", [1, 3, 100])
def test_map(ordered, concurrency):
    running = most = 0

    def square(x):
        nonlocal running, most
        running += 1
        most = max(most, running)
        weft.sleep(0.0005 * (x % 3))
        running -= 1
        return x * x

    results = list(weft.map(square, range(50), concurrency=concurrency, ordered=ordered))
    assert sorted(results) == [x * x for x in range(50)]
    if ordered:
        assert results == sorted(results)
    assert most <= concurrency
    assert most > concurrency / 3 or concurrency == 1 or concurrency == 100


@settings(max_examples=100, deadline=None)
@given(count=st.integers(0, 12), concurrency=st.integers(1, 5), ordered=st.booleans(), naps=st.booleans())
def test_map_ends_whatever_the_numbers(count, concurrency, ordered, naps):
    def work(x):
        if naps:
            weft.yield_now()
        return x

    with weft.timeout(20):
        assert sorted(weft.map(work, range(count), concurrency=concurrency, ordered=ordered)) == list(range(count))


def test_map_starts_its_workers_at_once():
    began = time.monotonic()
    assert len(list(weft.map(lambda x: weft.sleep(0.1), range(10), concurrency=10))) == 10
    assert time.monotonic() - began < 0.19


def test_map_of_items_that_must_be_waited_for():
    def items():
        for i in range(20):
            weft.sleep(0.0002)
            yield i

    assert list(weft.map(lambda x: x, items(), concurrency=5)) == list(range(20))


def test_group_lets_go_of_fibers_that_have_ended():
    class Held:
        pass

    with weft.TaskGroup() as group:
        held = Held()
        group.spawn(lambda held: held, held).join()
        gone = weakref.ref(held)
        del held
        weft.yield_now()
        assert gone() is None


def test_errors_have_a_text():
    assert str(weft.Timeout()) and str(weft.Cancelled())


def test_map_is_lazy_and_ends_with_its_iterator():
    taken = []

    def items():
        for i in range(10**9):
            taken.append(i)
            yield i

    results = weft.map(lambda x: x, items(), concurrency=4)
    assert next(results) == 0 and next(results) == 1
    results.close()
    assert len(taken) <= 20


def test_map_raises_what_a_call_raises():
    def fail(x):
        if x == 3:
            raise KeyError(x)
        return x

    seen = []
    with pytest.raises(KeyError):
        for value in weft.map(fail, range(100), concurrency=5):
            seen.append(value)
    assert seen == [0, 1, 2]
    assert list(weft.map(fail, [])) == []
    with pytest.raises(ValueError):
        weft.map(fail, [], concurrency=0)
    with pytest.raises(TypeError):
        weft.map(3, [])

    def bad_items():
        yield 1
        raise OSError("source")

    with pytest.raises(OSError, match="source"):
        list(weft.map(lambda x: x, bad_items()))


@pytest.mark.parametrize("concurrency", [1, 5])
def test_map_raises_what_is_no_exception_as_well(concurrency):
    def cancelled(_):
        fiber = weft.spawn(weft.sleep, 1000)
        fiber.cancel()
        return fiber.result()

    with weft.timeout(20), pytest.raises(weft.Cancelled):
        list(weft.map(cancelled, [1], concurrency=concurrency))

    def cancels_its_worker(_):
        weft.current().cancel()

    with weft.timeout(20), pytest.raises(weft.Cancelled):
        list(weft.map(cancels_its_worker, range(100), concurrency=concurrency))

    def items():
        yield 1
        raise SystemExit("source")

    with weft.timeout(20), pytest.raises(SystemExit, match="source"):
        list(weft.map(lambda x: x, items(), concurrency=concurrency))


def test_map_leaves_no_fiber_behind_when_a_signals_handler_raises():
    fibers = []

    def work(_):
        fibers.append(weft.current())
        with weft.shield():
            weft.sleep(0.05)

    results = weft.map(work, range(3))
    with interrupted_after(0.01, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        try:
            next(results)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    assert len(fibers) == 3 and all(fiber.done() for fiber in fibers)


def test_what_a_map_had_is_not_left_to_the_collector():
    class Result:
        pass

    def work(item):
        if item == fails_at:
            raise ValueError
        result = Result()
        seen.append(weakref.ref(result))
        return result

    gc.collect()
    gc.disable()
    try:
        for fails_at in (None, 5):
            seen = []
            with contextlib.suppress(ValueError):
                list(weft.map(work, range(10), concurrency=3))
            results = weft.map(work, range(10), concurrency=3)
            next(results)
            results.close()
            assert [reference() for reference in seen] == [None] * len(seen)
    finally:
        gc.enable()


def test_cancelled_while_mapping():
    fiber = weft.spawn(lambda: list(weft.map(lambda x: weft.sleep(1000), range(10))))
    weft.sleep(0.005)
    fiber.cancel()
    fiber.join()
    assert fiber.cancelled()
