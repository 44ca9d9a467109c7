"""weft.actor: no call leaks, whatever becomes of the actor, the message and the answer.

CASES has what each function calls: test_leaks_of_ours.py compares that with what is public.
"""

import asyncio
import contextlib
import logging
import os
import queue
import tempfile

import pytest

import weft
import weft.actor
import weft.actor.debug
from public_calls import ends, raises, refuses
from weft.actor import (
    Actor,
    ActorDeadError,
    ActorRef,
    ActorRegistry,
    ChannelEnd,
    Dispatcher,
    MailboxFull,
    MessageTimer,
    Restart,
    ThreadingActor,
    ThreadingFuture,
    Timeout,
)
from weft.actor.messages import ProxyCall, ProxyGetAttr, ProxySetAttr
from weft.actor.typing import ActorMemberMixin, proxy_field, proxy_method


class Failed(Exception):
    pass


class Shop(Actor):
    def __init__(self, *names):
        self.names = list(names)
        self.shelf = weft.actor.traversable(Shelf())
        if "refused" in names:
            raise Failed

    def on_start(self):
        super().on_start()
        if "fails to start" in self.names:
            raise Failed

    def on_stop(self):
        super().on_stop()

    def on_failure(self, *error):
        super().on_failure(*error)

    def on_receive(self, message):
        if message == "fail":
            raise Failed
        return [message]

    def join(self, *names, sep=","):
        return sep.join([*self.names, *names])

    def fail(self):
        raise Failed

    def nap(self, seconds):
        weft.sleep(seconds)

    def child(self, *names):
        return self.start_child(Shop, *names)

    def look_at_itself(self):
        return self.actor_urn, self.actor_inbox.qsize(), self.actor_stopped.is_set(), str(self)

    def end(self):
        self.stop()

    def itself(self):
        return self


class Shelf:
    def __init__(self):
        self.size = [1]

    def grow(self):
        self.size = [*self.size, 1][-2:]
        return self.size


class Slotted:
    __slots__ = ()


class ThreadShop(Shop, ThreadingActor):
    pass


class ReturningShop(Shop):
    restart_policy = Restart(limit=1, quiet=1000, delay=0)


class SmallShop(Shop):
    mailbox_size = 1


class RaisingShop(SmallShop):
    mailbox_policy = "raise"


class DroppingShop(SmallShop):
    mailbox_policy = "drop"


class SharedShop(Shop):
    pass


class OwnThreadShop(Shop):
    actor_dispatcher = "thread"


class CopyingShop(Shop):
    message_isolation = "copy"


class FreezingShop(Shop):
    message_isolation = "freeze"


class PatientShop(Shop):
    def on_child_failure(self, child, exception):
        self.names = [type(exception).__name__]


@contextlib.contextmanager
def open_shop(kind=Shop, *names):
    ref = kind.start(*names)
    try:
        yield ref
    finally:
        ref.stop()


@contextlib.contextmanager
def napping(shop):
    """It handles a message meanwhile."""
    answer = shop.ask(ProxyCall(("nap",), (1000,), {}), block=False)
    try:
        while not shop.actor_inbox.empty():
            weft.yield_now()
        yield answer
    finally:
        answer.cancel()


# --- Actors.


def an_actor_lives_and_stops():
    for kind in (Shop, ThreadShop, CopyingShop, FreezingShop):
        with open_shop(kind, "a") as shop:
            assert shop.ask([1]) is not None and shop.is_alive() and shop.actor_class is kind and repr(shop)
            assert isinstance(shop, ActorRef) and ActorRegistry.get_by_urn(shop.actor_urn) == shop and not shop.actor_stopped.is_set()
            urn, waiting, stopped, _ = shop.proxy().look_at_itself().get()
            assert urn == shop.actor_urn and waiting == shop.actor_inbox.qsize() == 0 and not stopped
        assert shop.actor_stopped.wait(1) and not shop.is_alive()
    with open_shop() as shop:
        shop.proxy().end().get()
        shop.actor_stopped.wait()
    refuses(Failed, Shop.start, "refused")
    shop = Shop.start("fails to start")
    shop.actor_stopped.wait()


def an_actor_fails():
    shop = Shop.start()
    shop.tell("fail")
    shop.actor_stopped.wait()
    with open_shop(ReturningShop, "a") as shop:
        shop.tell("fail")
        assert shop.ask(1) == [1] and weft.actor.statistics(shop).restarted == 1
        shop.tell("fail")
        shop.actor_stopped.wait()
    refuses(TypeError, Restart, "many")
    refuses(ValueError, Restart, 0)
    refuses(ValueError, Restart, delay=-1)


def children():
    with open_shop(PatientShop) as shop:
        child, other = shop.proxy().child("a").get(), shop.proxy().child("b").get()
        child.tell("fail")
        child.actor_stopped.wait()
        raises(Failed, shop.proxy().child("refused").get)
        raises(TypeError, shop.ask(ProxyCall(("start_child",), (5,), {}), block=False).get)
    assert not other.is_alive()
    with open_shop() as shop:
        shop.proxy().child().get().tell("fail")
        shop.actor_stopped.wait()
    with open_shop() as shop:
        refuses(RuntimeError, shop.proxy().itself().get().start_child, Shop)


def asking_and_telling():
    with open_shop(Shop, "a") as shop:
        shop.tell(["message"], urgent=True)
        assert shop.ask(1) == shop.ask(1, timeout=10, urgent=True) == shop.ask(1, within=10) == [1]
        assert shop.ask(1, block=False).get(timeout=10) == [1]
        refuses(Failed, shop.ask, "fail")
        shop.ask("fail", block=False)  # and nobody looks
        refuses(Timeout, shop.ask, ProxyCall(("nap",), (0.001,), {}), timeout=0)
        refuses(Timeout, shop.ask, ProxyCall(("nap",), (1000,), {}), within=0.0001)
        assert shop.ask(ProxyGetAttr(("names",))) == ["a"]
        shop.ask(ProxySetAttr(("names",), ["b"]))
        refuses(AttributeError, shop.ask, ProxyGetAttr(("no such",)))
        refuses(TypeError, shop.ask)
        with napping(shop) as answer:
            ends(lambda: shop.ask(1))
            ends(answer.get)
    refuses(ActorDeadError, shop.ask, 1)
    refuses(ActorDeadError, shop.tell, ["message"])
    refuses(ActorDeadError, shop.proxy)
    assert shop.stop() is False and shop.stop(block=False, urgent=True).get() is False


def full_mailboxes():
    for kind, error in ((RaisingShop, MailboxFull), (DroppingShop, MailboxFull), (SmallShop, None)):
        with open_shop(kind) as shop, napping(shop):
            shop.tell(["message"])
            if error is None:
                ends(lambda: shop.tell(["message"]))
                refuses(MailboxFull, shop.tell, ["message"], timeout=0.0001)
            else:
                refuses(MailboxFull, shop.ask, ["message"])


def timers():
    with open_shop() as shop:
        later, again = shop.tell_after(1000, ["message"]), shop.tell_every(1000, ["message"])
        assert isinstance(later, MessageTimer) and later.cancel() and not later.cancel()
        shop.tell_after(0.0001, ProxyCall(("end",), (), {}))
        shop.actor_stopped.wait()
        again.cancel()
        refuses(ValueError, shop.tell_every, 0, 1)
        refuses(TypeError, shop.tell_after, "long", 1)


def dispatchers():
    for on in ("threads", "fibers"):
        SharedShop.actor_dispatcher = Dispatcher(2, on=on, name="a name")
        with open_shop(SharedShop, "a") as shop, open_shop(SharedShop, "b") as other:
            assert shop.ask(1) == other.ask(1) == [1]
            refuses(Failed, shop.ask, "fail")
        del SharedShop.actor_dispatcher
    refuses(ValueError, Dispatcher, 0)
    refuses(ValueError, Dispatcher, 1, on="nothing")


def a_thread_of_its_own():
    with open_shop(OwnThreadShop, "a") as shop:
        assert shop.ask(1) == [1]


def pools():
    for routing in ("round_robin", "random", "least_waiting"):
        pool = weft.actor.start_pool(Shop, 3, "a", routing=routing)
        assert [pool.ask(i) for i in range(5)] == [[i] for i in range(5)]
        assert len(weft.actor.pool_workers(pool)) == 3 and weft.actor.statistics(pool).handled >= 5
        assert weft.actor.pool_worker(pool, "key") == weft.actor.pool_worker(pool, "key")
        pool.stop()
        refuses(ActorDeadError, weft.actor.pool_worker, pool, "key")
    refuses(ValueError, weft.actor.start_pool, Shop, 0)
    refuses(TypeError, weft.actor.start_pool, 5, 1)
    refuses(Failed, weft.actor.start_pool, Shop, 2, "refused")
    refuses(TypeError, weft.actor.pool_workers, 5)


def the_registry():
    with open_shop() as shop, open_shop(CopyingShop) as other:
        assert ActorRegistry.get_all() == [shop, other]
        assert ActorRegistry.get_by_class(CopyingShop) == ActorRegistry.get_by_class_name("CopyingShop") == [other]
        ActorRegistry.broadcast(["message"])
        ActorRegistry.broadcast(["message"], target_class=Shop)
        ActorRegistry.broadcast(["message"], target_class="Shop")
        ActorRegistry.unregister(shop)
        ActorRegistry.unregister(shop)
        ActorRegistry.register(shop)
        assert weft.actor.find("CopyingShop") == weft.actor.find(other.actor_urn) == other
        assert weft.actor.find("no such") is None and ActorRegistry.get_by_urn("urn:uuid:") is None
        assert ActorRegistry.stop_all(timeout=10) == [True, True]
        assert ActorRegistry.stop_all(block=False) == []
    refuses(TypeError, weft.actor.statistics, 5)
    refuses(TypeError, weft.actor.find)


def dead_letters():
    seen = []
    former = weft.actor.set_dead_letter_handler(seen.append)
    try:
        with open_shop(DroppingShop) as shop, napping(shop):
            shop.tell(["message"])
            shop.tell(["message"])
            shop.stop(block=False, urgent=True)
        shop.actor_stopped.wait()
        assert {letter.reason for letter in seen} == {"full", "stopped"}
        assert isinstance(seen[0], weft.actor.DeadLetter)
    finally:
        weft.actor.set_dead_letter_handler(former)


# --- Proxies and futures.


def proxies():
    with open_shop(Shop, "a") as shop:
        proxy = shop.proxy()
        assert isinstance(proxy, weft.actor.ActorProxy) and isinstance(proxy.join, weft.actor.CallableProxy)
        assert proxy.join("b", sep="-").get() == "a-b" and proxy.names.get() == ["a"]
        proxy.names = ["b"]
        assert proxy.shelf.grow().get() and proxy.shelf.size.get()
        proxy.join.defer("c")
        assert proxy.join.within(10)("c").get() == "b,c"
        assert proxy.actor_ref == proxy.join.actor_ref == shop and repr(proxy) and dir(proxy)
        raises(Failed, proxy.fail().get)
        raises(Timeout, proxy.nap.within(0.0001)(1000).get)
        raises(TypeError, proxy.join(wrong=5).get)
        refuses(AttributeError, getattr, proxy, "no_such")
        refuses(AttributeError, getattr, proxy, "_private")
        refuses(AttributeError, delattr, proxy, "names")
        refuses(TypeError, weft.actor.ActorProxy, actor_ref=5)
        refuses(TypeError, weft.actor.CallableProxy, actor_ref=shop, attr_path=5)
    refuses(ActorDeadError, proxy.join.defer)
    raises(ActorDeadError, proxy.join().get)


def typed_proxies():
    assert proxy_field([1]) == [1] and proxy_method(Shop.join) is Shop.join
    assert all(vars(ActorMemberMixin)[name] for name in ("on_start", "on_stop", "on_failure", "on_receive", "stop"))


def futures():
    def made(value):
        future = ThreadingFuture()
        future.set(value)
        return future

    future = made([1, 2, 3])
    assert future.get() == [1, 2, 3] and future.done() and not future.cancelled() and not future.cancel() and repr(future)
    assert future.filter(lambda i: i > 1).get() == [2, 3]
    assert future.map(len).get() == 3 and future.join(made(5)).get() == [[1, 2, 3], 5]
    assert future.reduce(lambda a, b: a + b, 1).get() == 7
    assert weft.actor.get_all([future, made(5)], timeout=10) == [[1, 2, 3], 5]
    hooked = ThreadingFuture()
    hooked.set_get_hook(lambda timeout: [timeout])
    assert hooked.get(timeout=5) == [5]
    refuses(Exception, future.set, 5)
    refuses(NotImplementedError, weft.actor.Future().get)


def futures_that_fail():
    failed = ThreadingFuture()
    failed.set_exception((Failed, Failed(), None))
    raises(Failed, failed.get)
    raises(Failed, failed.map(len).get)
    raises(Failed, failed.join(failed).get)
    raises(Failed, lambda: weft.actor.get_all([failed]))
    unset = ThreadingFuture()
    ends(unset.get)
    refuses(Timeout, unset.get, timeout=0.0001)
    refuses(Timeout, weft.actor.get_all, [unset], timeout=0.0001)
    mapped = unset.map(len).filter(len).reduce(max)
    refuses(Timeout, mapped.get, timeout=0.0001)
    assert unset.cancel() and unset.cancelled()
    raises(weft.Cancelled, unset.get)
    refuses(TypeError, ThreadingFuture().set_exception)
    refuses(queue.Full, unset.set_exception)


def futures_in_coroutines():
    async def wait_for(future):
        return await future

    with open_shop() as shop:
        assert weft.run_async(wait_for(shop.ask([1], block=False))) == [[1]]
        raises(Failed, lambda: weft.run_async(wait_for(shop.ask("fail", block=False))))
    assert asyncio.iscoroutinefunction(wait_for)


def marks():
    assert weft.actor.traversable(Shelf()).grow()
    refuses(ValueError, weft.actor.traversable, Slotted())
    weft.actor.ForeignActor()


def errors():
    for error in (weft.actor.ForeignError("type", "text"), weft.actor.RemoteError("type", "text", "traceback"), ActorDeadError("why"),
                  MailboxFull(), Timeout()):
        with contextlib.suppress(type(error)):
            raise error
        assert repr(error) and (str(error) or error)


def stacks_in_the_log():
    with open_shop():
        weft.actor.debug.log_thread_tracebacks()


# --- Other processes.


def ends_of_channels():
    channel = weft.Channel(2)
    end = ChannelEnd(channel)
    end.send([1])
    assert end.try_send([2]) and not end.try_send([3]) and len(end) == end.capacity == 2
    assert end.receive() == [1] and end.try_receive() == [2] and end.try_receive("none") == "none"
    refuses(weft.Timeout, end.receive, 0.0001)
    ends(end.receive)
    assert end.close() and end.closed
    refuses(weft.Closed, end.send, [1])
    refuses(TypeError, ChannelEnd, 5)


def services():
    path = os.path.join(tempfile.gettempdir(), "socket")
    with open_shop() as shop:
        with weft.actor.serve(path, shop, authkey=b"key") as service:
            assert isinstance(service, weft.actor.Service)
            refuses(OSError, weft.actor.serve, path, shop)
        service.close()
        refuses(OSError, weft.actor.serve, os.path.join(path, "nowhere"), shop)
        refuses(TypeError, weft.actor.serve, path, 5)
        refuses(OSError, weft.actor.connect, path)
        refuses(OSError, weft.actor.connect, "x" * 200)
        refuses(TypeError, weft.actor.connect, path, authkey="text")
    refuses(ActorDeadError, weft.actor.serve, path, shop)


CASES = {
    an_actor_lives_and_stops: "Actor Actor.start Actor.stop Actor.on_start Actor.on_stop Actor.on_receive Actor.actor_ref"
    " Actor.actor_urn Actor.actor_inbox Actor.actor_stopped ThreadingActor ActorRef ActorRef.ask ActorRef.is_alive ActorRef.actor_class"
    " ActorRef.actor_urn ActorRef.actor_stopped ActorRef.actor_inbox ActorRef.proxy ActorRef.stop",
    an_actor_fails: "Actor.on_failure Restart ActorRef.tell statistics",
    children: "Actor.start_child Actor.on_child_failure",
    asking_and_telling: "ActorRef.ask ActorRef.tell ActorRef.proxy ActorRef.stop messages.ProxyCall messages.ProxyGetAttr"
    " messages.ProxySetAttr",
    full_mailboxes: "ActorRef.tell ActorRef.ask MailboxFull",
    timers: "ActorRef.tell_after ActorRef.tell_every MessageTimer MessageTimer.cancel",
    dispatchers: "Dispatcher",
    a_thread_of_its_own: "Actor.start",
    pools: "start_pool pool_workers pool_worker statistics",
    the_registry: "ActorRegistry ActorRegistry.get_all ActorRegistry.get_by_class ActorRegistry.get_by_class_name"
    " ActorRegistry.get_by_urn ActorRegistry.broadcast ActorRegistry.register ActorRegistry.unregister ActorRegistry.stop_all find"
    " statistics",
    dead_letters: "set_dead_letter_handler DeadLetter",
    proxies: "ActorProxy ActorProxy.actor_ref CallableProxy CallableProxy.defer CallableProxy.within CallableProxy.actor_ref",
    typed_proxies: "typing.ActorMemberMixin typing.proxy_field typing.proxy_method",
    futures: "Future ThreadingFuture Future.get Future.set Future.done Future.cancelled Future.cancel Future.filter Future.map Future.join"
    " Future.reduce Future.set_get_hook get_all",
    futures_that_fail: "ThreadingFuture Future.get Future.set_exception Future.map Future.join Future.filter Future.reduce Future.cancel"
    " Future.cancelled get_all",
    futures_in_coroutines: "ActorRef.ask",
    marks: "traversable ForeignActor",
    errors: "ForeignError RemoteError ActorDeadError MailboxFull Timeout",
    stacks_in_the_log: "debug.log_thread_tracebacks",
    ends_of_channels: "ChannelEnd ChannelEnd.send ChannelEnd.try_send ChannelEnd.receive ChannelEnd.try_receive ChannelEnd.close"
    " ChannelEnd.closed ChannelEnd.capacity",
    services: "serve connect Service Service.close",
}
MODULE = "actor."
# A connection that failed is left to the collector: it keeps what it failed by, whose frames know it.
UNCHECKED = {services: ["gcgarbage"]}


@pytest.fixture
def nothing_is_logged(monkeypatch):
    """What pytest keeps of it would count."""
    monkeypatch.setattr(logging.getLogger("weft.actor"), "disabled", True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_no_leak(case, leaks_nothing, nothing_is_logged):
    leaks_nothing(case, *UNCHECKED.get(case, []))
