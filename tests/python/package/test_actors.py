"""weft.actor beyond what Pykka's own tests say: on fibers and on threads, futures, faults."""

import asyncio
import gc
import os
import queue
import threading
import time
import weakref

import pytest

import weft
import weft.actor
import weft.actor.debug
import weft.actor.messages
from weft.actor import (
    Actor,
    ActorDeadError,
    ActorRegistry,
    MailboxFull,
    ThreadingActor,
    ThreadingFuture,
    Timeout,
    get_all,
    statistics,
    traversable,
)


class Library:
    def __init__(self):
        self.size = 3
        self.shelf = traversable(Shelf())

    def lookup(self, name):
        return f"{name} in {threading.get_ident()}"


@traversable
class Shelf:
    label = "A"

    def where(self):
        return threading.get_ident()


class Counter(Actor):
    def __init__(self, start=0):
        self.sum = start
        self.library = traversable(Library())

    def on_receive(self, message):
        return message

    def add(self, n, *, times=1):
        self.sum += n * times
        return self.sum

    def fail(self, why="why"):
        raise ValueError(why)

    def ident(self):
        return threading.get_ident()

    def nap(self, seconds):
        weft.sleep(seconds)
        return seconds

    def is_os_thread(self):
        return os.path.isdir(f"/proc/self/task/{threading.get_native_id()}")

    def hold(self, gate):
        gate.receive()
        return "held"

    def ask_itself(self):
        return self.actor_ref.ask("never")

    def stop_itself(self):
        self.stop()
        return "stopping"


class CounterThread(Counter, ThreadingActor):
    pass


@pytest.fixture(params=[Counter, CounterThread], ids=["fiber", "thread"])
def kind(request):
    return request.param


@pytest.fixture(autouse=True)
def _none_left():
    yield
    left = ActorRegistry.get_all()
    ActorRegistry.stop_all()
    assert left == []


@pytest.fixture
def counter(kind):
    ref = kind.start(10)
    yield ref
    ref.stop()


def test_each_is_in_a_thread_of_control_of_its_own(kind):
    refs = [kind.start() for _ in range(5)]
    idents = {ref.proxy().ident().get() for ref in refs}
    assert len(idents) == 5 and threading.get_ident() not in idents
    for ref in refs:
        ref.stop()


def test_methods_fields_and_what_is_below_them(counter):
    proxy = counter.proxy()
    assert proxy.add(1, times=2).get() == 12
    assert proxy.sum.get() == 12
    proxy.sum = 5
    assert proxy.sum.get() == 5
    ident = proxy.ident().get()
    assert proxy.library.lookup("x").get() == f"x in {ident}"
    assert proxy.library.size.get() == 3
    assert proxy.library.shelf.where().get() == ident
    proxy.library.shelf.label = "B"
    assert proxy.library.shelf.label.get() == "B"


def test_what_a_proxy_makes_is_made_once(counter):
    proxy = counter.proxy()
    assert proxy.add is proxy.add
    assert proxy.library is proxy.library
    assert proxy.library.shelf.where is proxy.library.shelf.where
    assert proxy == counter.proxy() and hash(proxy) == hash(counter.proxy())
    assert proxy != proxy.library
    assert counter == proxy.actor_ref and len({counter, proxy.actor_ref}) == 1


def test_an_attribute_that_came_later_is_found(counter):
    proxy = counter.proxy()
    with pytest.raises(AttributeError, match="has no attribute 'later'"):
        proxy.later
    counter.ask(weft.actor.messages.ProxySetAttr(("later",), 7))
    assert proxy.later.get() == 7
    with pytest.raises(AttributeError, match="has no attribute '_private'"):
        proxy._private
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del proxy.sum


def test_asking_oneself_raises_with_the_reason(counter):
    with pytest.raises(RuntimeError, match=r"deadlock: Counter.* waits for Counter"):
        counter.proxy().ask_itself().get()
    assert counter.ask("alive") == "alive"


def test_actors_that_would_wait_for_each_other_are_told(kind):
    class Pair(kind):
        def call(self, other, back):
            return other.proxy().call_back(back).get()

        def call_back(self, back):
            return back.ask("never")

    left, right = Pair.start(), Pair.start()
    with pytest.raises(RuntimeError, match="deadlock: "):
        left.proxy().call(right, left).get()
    assert left.ask(1) == 1 and right.ask(2) == 2
    left.stop()
    right.stop()


def test_a_time_limit_of_a_wait_for_oneself_is_just_that(kind):
    class Patient(kind):
        def on_receive(self, message):
            try:
                return self.actor_ref.ask("x", timeout=0.01)
            except Timeout:
                return "timeout"

    ref = Patient.start()
    assert ref.ask("go") == "timeout"
    ref.stop(urgent=True)


@pytest.mark.parametrize("timeout", [0, -1, 0.01])
def test_an_answer_that_does_not_come_in_time(counter, timeout):
    napping = counter.proxy().nap(0.05)
    with pytest.raises(Timeout, match="seconds") as info:
        napping.get(timeout=timeout)
    assert isinstance(info.value, weft.Timeout) and isinstance(info.value, TimeoutError)
    assert napping.get(timeout=20) == 0.05


def test_a_wait_can_be_cancelled_and_timed():
    future = ThreadingFuture()
    waiter = weft.spawn(future.get)
    weft.yield_now()
    waiter.cancel()
    with pytest.raises(weft.Cancelled):
        waiter.result()
    with pytest.raises(weft.Timeout), weft.timeout(0.001):
        future.get()
    future.set(1)
    assert future.get() == 1


def test_a_dead_actor(counter):
    proxy = counter.proxy()
    method = proxy.add
    assert counter.stop() is True
    assert counter.stop() is False
    assert not counter.is_alive() and counter.actor_stopped.is_set() and counter.actor_stopped.wait(1)
    for use in (lambda: counter.tell(1), lambda: counter.ask(1), lambda: method.defer(1), lambda: counter.proxy()):
        with pytest.raises(ActorDeadError, match=r"^Counter.* \(urn:uuid:.*\) not found$"):
            use()
    with pytest.raises(ActorDeadError):
        method(1).get()
    with pytest.raises(ActorDeadError):
        proxy.sum.get()


def test_stop_during_an_ask_settles_what_waits(kind, until):
    ref = kind.start()
    gate = weft.Channel(0)
    held = ref.proxy().hold(gate)
    until(ref.actor_inbox.empty)
    waiting = [ref.ask(i, block=False) for i in range(100)]
    stopped = ref.stop(block=False, urgent=True)
    gate.send(None)
    assert held.get() == "held"
    assert stopped.get() is True
    for future in waiting:
        with pytest.raises(ActorDeadError, match="stopped before handling the message"):
            future.get(timeout=20)
    assert statistics(ref).refused == 100


def test_what_fails_goes_to_who_asked_and_else_ends_it(kind, until):
    seen = []

    class Watched(kind):
        def on_failure(self, exception_type, exception_value, traceback):
            seen.append((exception_type, str(exception_value), traceback is not None))
            super().on_failure(exception_type, exception_value, traceback)

        def on_stop(self):
            seen.append("stopped")

    ref = Watched.start()
    with pytest.raises(ValueError, match="asked"):
        ref.proxy().fail("asked").get()
    assert ref.is_alive()
    ref.proxy().fail.defer("told")
    ref.actor_stopped.wait()
    until(lambda: seen)
    assert seen == [(ValueError, "told", True)]
    assert statistics(ref).failed == 1


@pytest.mark.parametrize("hook", ["on_start", "on_stop", "on_failure"])
def test_a_hook_that_raises_is_logged_and_ends_it(kind, hook, caplog, until):
    def raising(self, *args):
        raise OSError(hook)

    ref = type("Raising", (kind,), {hook: raising}).start()
    waiting = ref.ask(1, block=False) if hook == "on_start" else None
    if hook == "on_failure":
        ref.proxy().fail.defer()
    elif hook == "on_stop":
        ref.stop()
    ref.actor_stopped.wait()
    until(lambda: any(record.exc_info and str(record.exc_info[1]) == hook for record in caplog.records))
    if waiting:
        with pytest.raises(ActorDeadError):
            waiting.get(timeout=20)


def test_what_the_constructor_raises_is_the_starters(kind):
    class Unmakeable(kind):
        def __init__(self):
            raise KeyError("constructor")

    with pytest.raises(KeyError):
        Unmakeable.start()


def test_a_failure_to_start_leaves_nothing(kind, monkeypatch):
    class Unstartable(kind):
        def _start_actor_loop(self, name):
            waiting.append(self.actor_ref.ask(1, block=False))
            raise MemoryError("no thread")

    waiting = []
    with pytest.raises(MemoryError):
        Unstartable.start()
    with pytest.raises(ActorDeadError):
        waiting[0].get(timeout=20)


def test_an_actor_that_never_ran_settles_what_was_sent_to_it(kind):
    actor = kind()
    waiting = actor.actor_ref.ask(1, block=False)
    gone = weakref.ref(actor)
    del actor
    gc.collect()
    assert gone() is None
    with pytest.raises(ActorDeadError):
        waiting.get(timeout=20)


def test_one_that_has_stopped_is_garbage(kind, until):
    class Payload:
        pass

    ref = kind.start()
    payload = Payload()
    gone = weakref.ref(payload)
    ref.proxy().payload = payload
    ref.tell(payload)
    del payload
    instance = ref._actor_weakref
    assert instance() is not None
    ref.stop()
    until(lambda: gc.collect() or (gone() is None and instance() is None))


@pytest.mark.parametrize("policy", ["raise", "drop"])
def test_a_full_mailbox(kind, policy, until):
    class Small(kind):
        mailbox_size = 2
        mailbox_policy = policy

    ref = Small.start()
    gate = weft.Channel(0)
    held = ref.proxy().hold(gate)
    until(ref.actor_inbox.empty)
    for _ in range(2):
        ref.tell("fits")
    assert ref.actor_inbox.qsize() == 2
    with pytest.raises(MailboxFull):
        ref.tell("too much") if policy == "raise" else ref.ask("too much")
    gate.send(None)
    held.get()
    until(ref.actor_inbox.empty)
    assert ref.ask("again") == "again"
    ref.stop()


def test_a_full_mailbox_that_blocks(kind, until):
    class Small(kind):
        mailbox_size = 1

    ref = Small.start()
    gate = weft.Channel(0)
    ref.proxy().hold.defer(gate)
    until(ref.actor_inbox.empty)
    ref.tell(1)
    with pytest.raises(MailboxFull):
        ref.tell(2, timeout=0.005)
    with pytest.raises(weft.Timeout), weft.timeout(0.005):
        ref.tell(2)
    gate.send(None)
    assert ref.ask(3) == 3
    assert statistics(ref).handled == 3
    ref.stop()


@pytest.mark.parametrize(("name", "value", "error"), [
    ("mailbox_size", 0, ValueError), ("mailbox_size", "x", TypeError), ("mailbox_policy", "burn", ValueError)])
def test_mailboxes_that_cannot_be(kind, name, value, error):
    with pytest.raises(error, match=name):
        type("Wrong", (kind,), {name: value}).start()


def test_urgent_messages_come_first(kind, until):
    class Order(kind):
        def __init__(self):
            self.seen = []

        def on_receive(self, message):
            self.seen.append(message)

    ref = Order.start()
    gate = weft.Channel(0)
    ref.proxy().hold.defer(gate)
    until(ref.actor_inbox.empty)
    for message in ("a", "b"):
        ref.tell(message)
    ref.tell("now", urgent=True)
    gate.send(None)
    assert ref.proxy().seen.get() == ["now", "a", "b"]
    ref.stop()


class Trait:
    """Comes after Actor in the order of bases."""

    def on_start(self):
        self.events = ["trait started"]

    def on_receive(self, message):
        return ["trait", message]

    def track(self, name):
        return name.upper()


def test_a_life_cycle_is_a_trait(kind):
    class Frontend(kind, Trait):
        def on_start(self):
            super().on_start()
            self.events.append("frontend started")

        def on_receive(self, message):
            return Trait.on_receive(self, message)

    class Plain(Actor, Trait):
        pass

    class Listing(list, Actor):
        pass

    ref = Frontend.start()
    assert ref.proxy().events.get() == ["trait started", "frontend started"]
    assert ref.proxy().track("song").get() == "SONG"
    assert ref.ask(1) == ["trait", 1]
    ref.stop()
    plain = Plain.start()
    assert plain.ask(2) == ["trait", 2]
    plain.stop()
    listing = Listing.start([1, 2])
    assert listing.proxy().index(2).get() == 1
    listing.stop()


def test_futures_from_native_threads(counter, until):
    answers = []
    proxy = counter.proxy()
    threads = [threading.Thread(target=lambda i=i: answers.append(proxy.add(i).get())) for i in range(20)]
    for thread in threads:
        thread.start()
    until(lambda: len(answers) == 20)
    for thread in threads:
        thread.join()
    assert max(answers) == 10 + sum(range(20))


def test_futures_in_futures(counter):
    outer = ThreadingFuture()
    outer.set(counter.proxy().add(1))
    assert outer.get().get() == 11


def test_many_futures_cost_memory_only():
    before = set(os.listdir("/proc/self/fd"))
    futures = [ThreadingFuture() for _ in range(100_000)]
    assert set(os.listdir("/proc/self/fd")) == before
    for number, future in enumerate(futures):
        future.set(number)
    assert get_all(futures)[-1] == 99_999


def test_futures_that_are_set_twice():
    future = ThreadingFuture()
    future.set(1)
    for again in (lambda: future.set(2), future.set_exception, lambda: future.set_get_hook(len)):
        with pytest.raises(queue.Full):
            again()
    with pytest.raises(TypeError, match="there is none"):
        ThreadingFuture().set_exception()
    with pytest.raises(TypeError, match="three values"):
        ThreadingFuture().set_exception((1, 2))


def test_an_exception_does_not_gather_tracebacks(counter):
    failing = counter.proxy().fail()
    lengths = []
    for _ in range(3):
        with pytest.raises(ValueError) as info:
            failing.get()
        lengths.append(len(info.traceback))
    assert len(set(lengths)) == 1


def test_futures_are_awaited_without_holding_up_the_loop(counter):
    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        proxy = counter.proxy()
        nap = proxy.nap(0.05)
        assert await nap == 0.05
        assert await proxy.add(1).map(lambda n: n * 2).join(proxy.add(1)) == [22, 12]
        with pytest.raises(ValueError):
            await proxy.fail()
        ticking.cancel()
        return ticks

    assert asyncio.run(main()) > 0


def test_awaiting_can_be_cancelled():
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_awaited(future), 0.01)

    async def _awaited(one):
        return await one

    future = ThreadingFuture()
    asyncio.run(main())
    future.set(3)
    assert future.get() == 3


def test_the_registry(kind):
    class Other(kind):
        pass

    refs = [kind.start(), Other.start(), kind.start()]
    assert ActorRegistry.get_all() == refs
    assert ActorRegistry.get_by_class(kind) == refs
    assert ActorRegistry.get_by_class(Other) == [refs[1]]
    assert ActorRegistry.get_by_class_name("Other") == [refs[1]]
    assert ActorRegistry.get_by_urn(refs[2].actor_urn) == refs[2]
    assert ActorRegistry.get_by_urn("urn:none") is None
    ActorRegistry.broadcast(1, "Other")
    assert ActorRegistry.stop_all() == [True, True, True]


def test_a_patched_thread_actor_is_a_fiber(until):
    with weft.patched():
        ref = CounterThread.start()
        assert ref.proxy().is_os_thread().get() is False
        names = {thread.name for thread in threading.enumerate()}
        assert any(name.startswith("CounterThread-") for name in names)
        refs = [CounterThread.start() for _ in range(50)]
        threads = len(os.listdir("/proc/self/task"))
        for other in [ref, *refs]:
            other.stop()
        until(lambda: not any(t.name.startswith("CounterThread-") for t in threading.enumerate()))
    assert threads < 30


def test_a_thousand_actors_that_nap_at_once():
    refs = [Counter.start() for _ in range(1000)]
    began = time.monotonic()
    naps = [ref.proxy().nap(0.2) for ref in refs]
    get_all(naps)
    assert time.monotonic() - began < 20 and len(refs) == 1000
    for ref in refs:
        ref.stop(block=False)
    for ref in refs:
        ref.actor_stopped.wait()


def test_tracebacks_name_the_actors(counter, caplog, until):
    gate = weft.Channel(0)
    counter.proxy().hold.defer(gate)
    until(counter.actor_inbox.empty)
    weft.actor.debug.log_thread_tracebacks()
    assert any(f"Current state of {counter}" in record.getMessage() for record in caplog.records)
    gate.send(None)
