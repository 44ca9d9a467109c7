"""weft.actor: messages that come later."""

import gc
import time
import weakref

import pytest

import weft
from weft.actor import Actor, ActorDeadError, ActorRegistry, ThreadingActor
from weft.actor.messages import ProxyCall


class Clock(Actor):
    def __init__(self):
        self.seen = []

    def on_receive(self, message):
        self.seen.append(message)

    def tick(self, name, *, times=1):
        self.seen.extend([name] * times)


class ClockThread(Clock, ThreadingActor):
    pass


@pytest.fixture(params=[Clock, ClockThread], ids=["fiber", "thread"])
def clock(request):
    ref = request.param.start()
    yield ref
    ref.stop()
    assert ActorRegistry.get_all() == []


def seen_by(clock, count, until):
    seen = []

    def enough():
        weft.sleep(0.001)
        seen[:] = clock.proxy().seen.get()
        return len(seen) >= count

    until(enough)
    return seen


def test_in_the_order_of_their_times(clock, until):
    began = time.monotonic()
    clock.tell_after(0.03, "c")
    clock.tell_after(0.01, "a")
    clock.tell_after(0.02, ProxyCall(("tick",), ("b",), {"times": 2}))
    assert seen_by(clock, 4, until) == ["a", "b", "b", "c"]
    assert time.monotonic() - began >= 0.03


def test_again_and_again(clock, until):
    timer = clock.tell_every(0.001, "tick")
    assert set(seen_by(clock, 5, until)) == {"tick"}
    assert timer.cancel() is True
    assert timer.cancel() is False
    weft.sleep(0.005)  # one may have been on its way
    count = len(clock.proxy().seen.get())
    weft.sleep(0.02)
    assert len(clock.proxy().seen.get()) == count


def test_what_is_cancelled_is_let_go(clock):
    class Payload:
        pass

    payload = Payload()
    gone = weakref.ref(payload)
    timer = clock.tell_after(3600, payload)
    del payload
    assert gone() is not None
    assert timer.cancel()
    gc.collect()
    assert gone() is None


def test_they_end_with_their_actor(until):
    ref = Clock.start()
    timer = ref.tell_every(0.001, "tick")
    ref.stop()
    until(lambda: not timer.cancel())
    with pytest.raises(ActorDeadError):
        ref.tell_after(1, "late")


@pytest.mark.parametrize(("period", "error"), [(0, ValueError), (-1, ValueError), (float("nan"), ValueError),
                                               (None, TypeError), ("1", TypeError)])
def test_periods_that_are_none(clock, period, error):
    with pytest.raises(error):
        clock.tell_every(period, "tick")


def test_a_program_ends_with_timers_pending(run_program):
    done = run_program("""
        import weft.actor
        class A(weft.actor.Actor):
            use_daemon_thread = True
        ref = A.start()
        for _ in range(100):
            ref.tell_every(0.0001, "tick")
        ref.tell_after(3600, "never")
        print("ends")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ends\n", "")
