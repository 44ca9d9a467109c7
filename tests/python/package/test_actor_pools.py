"""Pools of actors, and dead letters."""

import sys

import pytest

import weft
import weft.actor
from weft.actor import Actor, ActorDeadError, ActorRegistry, DeadLetter, Dispatcher, Restart, ThreadingActor


@pytest.fixture(autouse=True)
def _none_left():
    yield
    left = ActorRegistry.get_all()
    ActorRegistry.stop_all()
    assert left == []


class Fragile(Actor):
    restart_policy = Restart(limit=3, quiet=3600, delay=0.001, longest=0.004)

    def __init__(self, log):
        self.log = log
        self.count = 0

    def add(self):
        self.count += 1
        return self.count

    def on_receive(self, message):
        if message == "fail":
            raise ValueError("broken")
        return self.count


class Mortal(Fragile):
    restart_policy = None


class OnThread(Fragile, ThreadingActor):
    pass


class OnWorkers(Fragile):
    pass


@pytest.fixture(params=[Fragile, OnThread, OnWorkers], ids=lambda kind: kind.__name__)
def kind(request):
    if request.param is OnWorkers:
        OnWorkers.actor_dispatcher = Dispatcher(2)
    yield request.param
    if request.param is OnWorkers:
        OnWorkers.actor_dispatcher = "fiber"  # the workers end


def test_a_pool_gives_its_messages_in_turn(kind):
    pool = weft.actor.start_pool(kind, 3, [])
    assert pool.actor_class is kind
    workers = weft.actor.pool_workers(pool)
    assert len(workers) == 3 and all(worker.actor_class is kind for worker in workers)
    proxy = pool.proxy()
    assert [proxy.add().get() for _ in range(7)] == [1, 1, 1, 2, 2, 2, 3]
    pool.tell("count")
    assert weft.actor.statistics(pool).handled >= 7
    assert pool.stop()
    assert not any(worker.is_alive() for worker in workers)
    with pytest.raises(ActorDeadError):
        pool.ask("count")
    with pytest.raises(ActorDeadError):
        pool.tell("count")
    with pytest.raises(ActorDeadError):
        weft.actor.pool_worker(pool, 1)


def test_a_key_stays_with_its_actor():
    pool = weft.actor.start_pool(Fragile, 4, [], routing="random")
    owners = {key: weft.actor.pool_worker(pool, key) for key in range(50)}
    assert len(set(owners.values())) == 4
    gone = weft.actor.pool_workers(pool)[1]
    gone.stop()
    for key, owner in owners.items():
        assert (weft.actor.pool_worker(pool, key) == owner) == (owner != gone)
    pool.stop()


def test_the_least_busy_gets_it(until):
    class Waits(Fragile):
        def wait(self, gate):
            gate.receive()

    pool = weft.actor.start_pool(Waits, 2, [], routing="least_waiting")
    gate = weft.Channel(0)
    for _ in range(2):
        pool.proxy().wait.defer(gate)
        until(lambda: weft.actor.statistics(pool).waiting == 0)
    for _ in range(4):
        pool.proxy().add.defer()
    assert [weft.actor.statistics(worker).waiting for worker in weft.actor.pool_workers(pool)] == [2, 2]
    gate.close()
    pool.stop(urgent=True)


def test_a_pool_whose_actor_fails_for_good_stops(until):
    pool = weft.actor.start_pool(Mortal, 3, [])
    workers = weft.actor.pool_workers(pool)
    workers[0].tell("fail")
    until(lambda: not any(ref.is_alive() for ref in [pool, *workers]))


def test_a_pool_stops_with_its_last_actor(until):
    pool = weft.actor.start_pool(Fragile, 2, [])
    for worker in weft.actor.pool_workers(pool):
        worker.stop()
    until(lambda: not pool.is_alive())


def test_a_broadcast_reaches_each_actor_of_a_pool_once():
    log = []

    class Hears(Fragile):
        def on_receive(self, message):
            log.append(message)

    pool = weft.actor.start_pool(Hears, 3, log)
    log.clear()
    assert len(ActorRegistry.get_by_class(Hears)) == 3
    assert ActorRegistry.get_by_urn(pool.actor_urn) == pool
    ActorRegistry.broadcast("x", Hears)
    pool.stop()
    assert log.count("x") == 3


def test_what_cannot_take_a_message_now_is_passed_over(until):
    class Waits(Fragile):
        restart_policy = Restart(limit=3, delay=3600, longest=3600)
        mailbox_size = 1
        mailbox_policy = "raise"

        def wait(self, gate):
            gate.receive()

    # One is held, with a full mailbox; one waits to be made anew; one is asked to stop, and at a message.
    pool = weft.actor.start_pool(Waits, 4, [])
    full, broken, stopping, free = weft.actor.pool_workers(pool)
    gate = weft.Channel(0)
    for each in (full, stopping):
        each.proxy().wait.defer(gate)
        until(lambda each=each: weft.actor.statistics(each).waiting == 0)
    full.proxy().add.defer()
    broken.tell("fail")
    until(lambda: weft.actor.statistics(broken).failed == 1)
    stopped = stopping.stop(block=False)
    where = [pool.ask("count", timeout=10) for _ in range(8)]
    assert where == [0] * 8
    assert weft.actor.statistics(free).handled == 8
    gate.close()
    assert stopped.get()
    pool.stop(urgent=True)


def test_who_waits_for_room_at_one_that_stops_goes_to_another(until):
    class Waits(Fragile):
        mailbox_size = 1

        def wait(self, gate):
            gate.receive()

    pool = weft.actor.start_pool(Waits, 2, [])
    gates = [weft.Channel(0), weft.Channel(0)]
    first, second = weft.actor.pool_workers(pool)
    for worker, gate in zip((first, second), gates):
        worker.proxy().wait.defer(gate)
        until(lambda worker=worker: weft.actor.statistics(worker).waiting == 0)
        worker.proxy().add.defer()
    asked = weft.spawn(lambda: pool.ask("count"))
    told = weft.spawn(lambda: pool.tell("count"))
    for _ in range(20):
        weft.yield_now()
    stopped = first.stop(block=False, urgent=True)
    gates[0].close()
    assert stopped.get()
    gates[1].close()
    assert asked.result() == 1, "the other one has added"
    assert told.result() is None
    pool.stop()


def test_a_pool_counts_what_is_gone():
    pool = weft.actor.start_pool(Fragile, 2, [])
    for _ in range(6):
        pool.ask("count")
    weft.actor.pool_workers(pool)[0].stop()
    assert weft.actor.statistics(pool).handled == 6
    pool.stop()
    assert weft.actor.statistics(pool).handled == 6


def test_cancelling_what_a_pool_was_asked(until):
    class Sleeps(Fragile):
        def sleep(self):
            weft.sleep(3600)

    pool = weft.actor.start_pool(Sleeps, 2, [])
    future = pool.proxy().sleep()
    until(lambda: weft.actor.statistics(pool).waiting == 0)
    assert future.cancel()
    assert [pool.proxy().add().get() for _ in range(2)] == [1, 1], "none of them sleeps"
    pool.stop()


def test_pools_that_cannot_be():
    with pytest.raises(ValueError, match="at least one"):
        weft.actor.start_pool(Fragile, 0, [])
    with pytest.raises(ValueError, match="routing"):
        weft.actor.start_pool(Fragile, 1, [], routing="astrology")
    with pytest.raises(TypeError):
        weft.actor.start_pool(Fragile, 1)
    assert weft.actor.pool_workers(ref := Fragile.start([])) == [ref]
    assert weft.actor.pool_worker(ref, "any") == ref
    with pytest.raises(TypeError, match="unhashable"):
        weft.actor.pool_worker(ref, [])
    ref.stop()


# --- Dead letters.


@pytest.fixture
def letters():
    found = []
    former = weft.actor.set_dead_letter_handler(found.append)
    yield found
    assert weft.actor.set_dead_letter_handler(former) is not None


def test_what_was_told_and_is_not_handled_is_a_dead_letter(letters, until):
    class Deaf(Actor):
        mailbox_size = 3
        mailbox_policy = "drop"

        def wait(self, gate):
            gate.receive()

    ref = Deaf.start()
    gate = weft.Channel(0)
    ref.proxy().wait.defer(gate)
    until(ref.actor_inbox.empty)
    ref.tell("left")
    asked = ref.ask("asked", block=False)
    ref.proxy().wait.defer(7, extra=1)
    ref.tell("too many")
    assert letters == [DeadLetter("too many", ref, "full")]
    stopped = ref.stop(block=False, urgent=True)
    gate.send(None)
    assert stopped.get()
    with pytest.raises(ActorDeadError):
        asked.get()
    until(lambda: len(letters) == 3)
    assert letters[1] == DeadLetter("left", ref, "stopped")
    call = letters[2].message
    assert (call.attr_path, call.args, call.kwargs) == (("wait",), (7,), {"extra": 1})
    with pytest.raises(ActorDeadError):
        ref.tell("the sender hears of it")
    assert len(letters) == 3


def test_a_call_that_was_deferred_too_long_is_one(letters, until):
    class Naps(Actor):
        def nap(self, seconds):
            weft.sleep(seconds)

    ref = Naps.start()
    ref.proxy().nap.defer(0.1)
    ref.proxy().nap.within(0.01).defer(3600)
    ref.ask("done")
    assert [(letter.message.args, letter.reason) for letter in letters] == [((3600,), "expired")]
    ref.stop()


def test_dead_letters_to_an_actor_that_is_full_itself_end_there(until):
    class Undertaker(Actor):
        mailbox_size = 1
        mailbox_policy = "drop"

        def on_receive(self, message):
            gate.receive()

    gate = weft.Channel(0)
    undertaker = Undertaker.start()
    former = weft.actor.set_dead_letter_handler(undertaker.tell)
    try:
        for n in range(5):
            undertaker.tell(n)
    finally:
        weft.actor.set_dead_letter_handler(former)
        gate.close()
        undertaker.stop(urgent=True)


def test_a_handler_that_raises_is_reported(letters, monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    weft.actor.set_dead_letter_handler(lambda _: 1 / 0)

    class Full(Actor):
        mailbox_size = 1
        mailbox_policy = "drop"

    ref = Full.start()
    ref.tell(1)
    ref.tell(2)
    ref.stop()
    assert [each.exc_type for each in reported] == [ZeroDivisionError]
    weft.actor.set_dead_letter_handler(letters.append)
    with pytest.raises(TypeError, match="function"):
        weft.actor.set_dead_letter_handler(1)
