"""Actors that are made anew, that watch over others, and that share workers."""

import gc
import logging
import os
import threading
import time
import weakref

import pytest

import weft
import weft.actor
from weft.actor import Actor, ActorDeadError, ActorRegistry, Dispatcher, Restart, ThreadingActor

SOON = Restart(limit=3, quiet=3600, delay=0.001, longest=0.004)
LATE = Restart(limit=3, quiet=3600, delay=3600, longest=3600)


@pytest.fixture(autouse=True)
def _none_left():
    yield
    left = ActorRegistry.get_all()
    ActorRegistry.stop_all()
    assert left == []


def native(*_):
    return threading.get_native_id()


class Fragile(Actor):
    restart_policy = SOON
    made = 0

    def __init__(self, log, name="a", *, starts=True):
        self.log, self.name, self.starts = log, name, starts
        self.count = 0
        self.early = self.actor_ref
        type(self).made += 1
        log.append(f"{name} made")

    def on_start(self):
        self.log.append(f"{self.name} starts")
        if not self.starts:
            raise OSError("cannot start")

    def on_stop(self):
        self.log.append(f"{self.name} stops")

    def on_failure(self, kind, value, traceback):
        assert traceback.tb_frame is not None
        self.log.append(f"{self.name} failed with {kind.__name__}")

    def add(self):
        self.count += 1
        return self.count

    def fail(self, error=ValueError):
        raise error("broken")

    def where(self):
        return threading.get_native_id()

    def on_receive(self, message):
        return self.count if message == "count" else self.fail()


class Late(Fragile):
    restart_policy = LATE


class OnThread(Fragile, ThreadingActor):
    pass


class OnOwnThread(Fragile):
    actor_dispatcher = "thread"


class OnWorkers(Fragile):
    pass


KINDS = [Fragile, OnThread, OnOwnThread, OnWorkers]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    if request.param is OnWorkers:
        OnWorkers.actor_dispatcher = Dispatcher(2)
    yield request.param
    if request.param is OnWorkers:
        OnWorkers.actor_dispatcher = "fiber"  # the workers end


def test_a_failed_actor_is_made_anew_and_keeps_its_reference(kind):
    log = []
    ref = kind.start(log)
    proxy = ref.proxy()
    assert [proxy.add().get(), proxy.add().get()] == [1, 2]
    proxy.fail.defer()
    assert proxy.add().get() == 1, "of another instance"
    assert proxy.early.get() == ref
    assert ref.is_alive() and ActorRegistry.get_by_urn(ref.actor_urn) == ref
    statistics = weft.actor.statistics(ref)
    assert (statistics.failed, statistics.restarted) == (1, 1)
    ref.stop()
    assert log == ["a made", "a starts", "a failed with ValueError", "a made", "a starts", "a stops"]


def test_an_answered_exception_is_no_failure(kind):
    ref = kind.start([])
    with pytest.raises(KeyError):
        ref.proxy().fail(KeyError).get()
    assert weft.actor.statistics(ref).restarted == 0
    ref.stop()


def test_one_that_fails_too_often_stops(kind):
    log = []
    ref = kind.start(log)
    for _ in range(4):
        ref.tell("fail")
    with pytest.raises(ActorDeadError):
        ref.ask("count")
    assert log.count("a made") == 4 and "a stops" not in log


def test_one_that_cannot_start_is_tried_again(kind, until, caplog):
    log = []
    ref = kind.start(log, starts=False)
    until(lambda: not ref.is_alive())
    assert log.count("a starts") == 4
    assert len([record for record in caplog.records if "Unhandled exception" in record.message]) == 4


def test_a_constructor_that_fails_when_it_is_made_anew(kind, until):
    class Once(kind):
        tries = 0

        def __init__(self, log):
            super().__init__(log)
            Once.tries += 1
            if Once.tries == 2:
                raise OSError("busy")

    log = []
    ref = Once.start(log)
    ref.tell("fail")
    assert ref.ask("count") == 0
    assert Once.tries == 3 and weft.actor.statistics(ref).restarted == 2
    ref.stop()


def test_stop_cuts_the_delay_short(until):
    log = []
    ref = Late.start(log)
    ref.tell("fail")
    answer = ref.ask("count", block=False)
    until(lambda: "a failed with ValueError" in log)
    assert ref.stop(timeout=10)
    assert answer.get() == 0, "sent before the stop"


def test_what_is_no_exception_stops_it_all_the_same(kind, until):
    ref = kind.start([])
    ref.proxy().fail.defer(KeyboardInterrupt)
    until(lambda: not ref.is_alive())


def test_the_failed_instance_and_its_exception_are_garbage(kind, until, monkeypatch):
    monkeypatch.setattr(logging.getLogger("weft.actor"), "disabled", True)  # records have the exception, too
    seen = []

    class Heavy(kind):
        def on_start(self):
            seen.append(weakref.ref(self))

        def fail(self, error=ValueError):
            mine = self  # noqa: F841  # the traceback has it
            raise error("broken")

    ref = Heavy.start([])
    ref.proxy().fail.defer()
    assert ref.ask("count") == 0
    until(lambda: gc.collect() is not None and seen[0]() is None)
    ref.stop()
    del ref
    until(lambda: gc.collect() is not None and seen[1]() is None)


def test_policies_that_cannot_be():
    with pytest.raises(ValueError, match="limit"):
        Restart(limit=0)
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="negative"):
            Restart(delay=seconds)
    with pytest.raises(TypeError, match="whole"):
        Restart(limit=1.5)
    for policy in (True, Restart, "always"):
        kind = type("Odd", (Actor,), {"restart_policy": policy})
        with pytest.raises(TypeError, match="restart_policy"):
            kind.start()


def test_children_that_cannot_be():
    class Odd(Actor):
        def adopt(self, kind):
            return self.start_child(kind)

    odd = Odd.start()
    for kind in (5, odd, object):
        with pytest.raises(TypeError, match="class of actors"):
            odd.proxy().adopt(kind).get()
        with pytest.raises(TypeError, match="class of actors"):
            weft.actor.start_pool(kind, 2)
    with pytest.raises(TypeError, match="whole number"):
        weft.actor.start_pool(Odd, "2")
    odd.stop()


# --- Parents and children.


class Parent(Actor):
    def __init__(self, log, kind=Fragile, *, forgives=True):
        self.log, self.kind, self.forgives = log, kind, forgives
        self.child = None

    def on_start(self):
        self.child = self.start_child(self.kind, self.log, "child")

    def on_stop(self):
        self.log.append("parent stops")

    def on_failure(self, kind, value, traceback):
        self.log.append(f"parent failed with {kind.__name__}")

    def on_child_failure(self, child, exception):
        self.log.append(f"{child.actor_class.__name__} failed for good")
        if not self.forgives:
            super().on_child_failure(child, exception)
        self.child = self.start_child(self.kind, self.log, "child")

    def fail(self):
        raise RuntimeError("broken")


class Mortal(Fragile):
    restart_policy = None


def test_a_parent_has_stopped_when_its_children_have(kind):
    log = []
    parent = Parent.start(log, kind)
    child = parent.proxy().child.get()
    child.ask("count")
    count = child.ask("count", block=False)
    assert parent.stop()
    assert not child.is_alive()
    assert log == ["child made", "child starts", "parent stops", "child stops"]
    assert count.get() == 0, "sent before the stop"


def test_a_childs_failure_is_its_parents(until):
    log = []
    parent = Parent.start(log, Mortal, forgives=False)
    parent.proxy().child.get().tell("fail")
    until(lambda: not parent.is_alive())
    until(lambda: "parent failed with ValueError" in log)
    assert log[-2:] == ["Mortal failed for good", "parent failed with ValueError"]


def test_a_parent_may_forgive(until):
    log = []
    parent = Parent.start(log, Mortal)
    first = parent.proxy().child.get()
    first.tell("fail")
    until(lambda: "Mortal failed for good" in log)
    second = parent.proxy().child.get()
    assert second != first and second.ask("count") == 0
    assert parent.is_alive()
    parent.stop()


def test_a_parent_that_is_made_anew_has_new_children(until):
    class Stubborn(Parent):
        restart_policy = SOON

    log = []
    parent = Stubborn.start(log)
    first = parent.proxy().child.get()
    parent.proxy().fail.defer()
    second = parent.proxy().child.get()
    assert second != first
    until(lambda: not first.is_alive())
    parent.stop()
    assert not second.is_alive()


def test_only_the_actor_itself_starts_children():
    parent = Parent.start([])
    parent.proxy().child.get()
    instance = parent._actor_weakref()
    with pytest.raises(RuntimeError, match="itself"):
        instance.start_child(Fragile, [])
    parent.stop()
    with pytest.raises(ActorDeadError):
        instance.start_child(Fragile, [])
    assert ActorRegistry.get_by_class(Fragile) == []


def test_a_child_that_asks_its_parent_as_that_ends(until):
    class Asker(Actor):
        def __init__(self, parent):
            self.parent = parent

        def ask_parent(self, gate):
            gate.receive()
            return self.parent.ask("hello")

    class Asked(Actor):
        def adopt(self):
            return self.start_child(Asker, self.actor_ref)

    parent = Asked.start()
    child = parent.proxy().adopt().get()
    gate = weft.Channel(0)
    answer = child.proxy().ask_parent(gate)
    until(child.actor_inbox.empty)
    stopped = parent.stop(block=False)
    until(lambda: not parent.is_alive())
    gate.send(None)
    with pytest.raises(ActorDeadError):
        answer.get(timeout=10)
    assert stopped.get(timeout=10)


# --- Dispatchers.


def test_an_own_thread_is_one_where_threads_are_fibers():
    with weft.patched():
        ref = OnOwnThread.start([])
        other = OnOwnThread.start([])
        here = native()
        where = ref.proxy().where().get()
        assert where == ref.proxy().where().get()
        assert len({here, where, other.proxy().where().get()}) == 3
        assert os.path.isdir(f"/proc/self/task/{where}")
        ref.stop()
        other.stop()


def test_workers_are_shared():
    class OnTwo(Fragile):
        actor_dispatcher = Dispatcher(2)

    refs = [OnTwo.start([]) for _ in range(50)]
    places = {ref.proxy().where().get() for ref in refs for _ in range(3)}
    assert native() not in places and 1 <= len(places) <= 2
    for ref in refs:
        assert ref.stop()


def test_fibers_are_shared():
    class OnFibers(Fragile):
        actor_dispatcher = Dispatcher(3, on="fibers", name="few")

        def other(self, ref):
            return ref.ask("count")

    refs = [OnFibers.start([]) for _ in range(20)]
    assert {ref.proxy().where().get() for ref in refs} == {native()}
    assert refs[0].proxy().other(refs[1]).get() == 0
    for ref in refs:
        ref.stop()


def test_computing_on_a_thread_lets_the_fibers_go_on():
    class Computes(Actor):
        actor_dispatcher = "thread"

        def compute(self, stop):
            n = 0
            while not stop:
                n += 1
            return n

    ref = Computes.start()
    stop = []
    answer = ref.proxy().compute(stop)
    for _ in range(5):
        weft.sleep(0.001)
    stop.append(True)
    assert answer.get() > 0
    ref.stop()


@pytest.mark.parametrize(
    ("arguments", "named", "error"),
    [((0,), {}, ValueError), ((10**6,), {}, ValueError), ((1,), {"on": "mars"}, ValueError), (("x",), {}, TypeError)],
)
def test_dispatchers_that_cannot_be(arguments, named, error):
    with pytest.raises(error):
        Dispatcher(*arguments, **named)


def test_what_is_no_dispatcher():
    class Lost(Actor):
        actor_dispatcher = "mars"

    with pytest.raises(TypeError, match="actor_dispatcher"):
        Lost.start()


PROGRAM = """
import time, weft.actor
class Slow(weft.actor.Actor):
    actor_dispatcher = {dispatcher}
    use_daemon_thread = {daemon}
    def work(self):
        time.sleep(0.2)
        print("worked", flush=True)
ref = Slow.start()
ref.proxy().work.defer()
if not {daemon}:
    ref.stop(block=False)
"""


@pytest.mark.parametrize("dispatcher", ['"thread"', "weft.actor.Dispatcher(2)"])
@pytest.mark.parametrize("daemon", [False, True])
def test_the_program_ends_after_its_actors_but_for_daemons(run_program, dispatcher, daemon):
    done = run_program(PROGRAM.format(dispatcher=dispatcher, daemon=daemon))
    assert done.returncode == 0, done.stderr
    assert (done.stdout == "worked\n") == (not daemon)


AT_EXIT = """
import atexit, weft.actor
class Daemon(weft.actor.Actor):
    use_daemon_thread = True
    actor_dispatcher = {dispatcher}
    restart_policy = weft.actor.Restart()
    def on_start(self):
        self.start_child(Child)
class Child(weft.actor.Actor):
    use_daemon_thread = True
ref = Daemon.start()
ref.proxy().actor_urn.get()
atexit.register(lambda: print(ref.stop(timeout=20), flush=True))
"""


@pytest.mark.parametrize("dispatcher", ['"fiber"', '"thread"', "weft.actor.Dispatcher(1)"])
def test_daemons_can_be_stopped_by_functions_at_exit(run_program, dispatcher):
    done = run_program(AT_EXIT.format(dispatcher=dispatcher))
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_a_childs_failure_does_not_leave_its_parent_to_the_collector(monkeypatch):
    monkeypatch.setattr(logging.getLogger("weft.actor"), "disabled", True)  # pytest keeps what is logged

    class Child(Actor):
        def on_receive(self, message):
            raise ValueError

    class Parent(Actor):
        def on_receive(self, message):
            seen.append(weakref.ref(self))
            return self.start_child(Child)

    seen = []
    gc.collect()
    gc.disable()
    try:
        parent = Parent.start()
        parent.ask("start").tell("fail")
        parent.actor_stopped.wait()
        del parent
        end = time.monotonic() + 10
        while seen[0]() is not None:  # its fiber ends a little later
            assert time.monotonic() < end
            weft.sleep(0.001)
    finally:
        gc.enable()
