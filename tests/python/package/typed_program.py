# pyright: strict
"""Uses all of the package; not run, but read by mypy and pyright, strictly."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any, assert_type, cast

import weft
from weft import actor, heap
from weft.actor.typing import ActorMemberMixin, proxy_field, proxy_method


def add(a: int, b: int = 0) -> int:
    return a + b


async def coroutine() -> str:
    await asyncio.sleep(0)
    return "text"


async def awaits(fiber: weft.Fiber[int]) -> int:
    return await fiber


def fibers() -> None:
    fiber = weft.spawn(add, 1, b=2, name="adder")
    assert_type(fiber, weft.Fiber[int])
    assert_type(weft.spawn(add, 1, b=2), weft.Fiber[int])
    assert_type(weft.spawn(lambda: "text"), weft.Fiber[str])
    weft.spawn(add, "x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    assert_type(fiber.result(), int)
    assert_type(fiber.result(timeout=1.0), int)
    assert_type(fiber.exception(), BaseException | None)
    assert_type(fiber.join(1), None)
    assert_type(fiber.cancel(), bool)
    assert_type(fiber.done(), bool)
    assert_type(fiber.cancelled(), bool)
    assert_type(fiber.name, str)
    assert_type(fiber.id, int)
    assert_type(fiber.spawned_at, str)
    fiber.add_done_callback(lambda ended: print(ended.result() + 1))
    assert_type(weft.current(), weft.Fiber[Any] | None)
    assert_type(weft.run_async(awaits(fiber)), int)
    assert_type(weft.run_async(coroutine()), str)
    assert_type(weft.to_thread(add, 1, b=2), int)


def scopes() -> None:
    with weft.timeout(1) as scope:
        assert_type(scope, weft.timeout)
        assert_type(scope.expired, bool)
        assert_type(scope.remaining, float | None)
    with weft.shield():
        weft.sleep(0)
        weft.yield_now()
    with weft.TaskGroup() as group:
        assert_type(group, weft.TaskGroup)
        assert_type(group.spawn(add, 1, b=2, name="x"), weft.Fiber[int])
        group.cancel()
    assert_type(weft.map(str, [1, 2], concurrency=3, ordered=False), Iterator[str])


def channels(file: socket.socket) -> None:
    channel = weft.Channel[int](3)
    unbounded: weft.Channel[str] = weft.Channel(None)
    channel.send(1, timeout=1)
    assert_type(channel.try_send(2), bool)
    assert_type(channel.receive(), int)
    assert_type(channel.try_receive(), int | None)
    assert_type(channel.try_receive("none"), int | str)
    for item in channel:
        assert_type(item, int)
    assert_type(len(channel), int)
    assert_type(channel.closed, bool)
    assert_type(channel.capacity, int | None)
    assert_type(unbounded.close(), bool)
    case: weft.Case = weft.sending(channel, 1)
    number, value = weft.select(channel, case, weft.readable(file), weft.writable(0), weft.after(1), wait=False)
    assert_type(number, int | None)
    assert_type(weft.select(channel)[0], int)
    print(value)
    assert_type(weft.wait_readable(file, timeout=1), bool)
    assert_type(weft.wait_writable(file), bool)


def patches() -> None:
    weft.start()
    assert_type(weft.running(), bool)
    weft.patch(only={"sockets"}, exclude=weft.FAMILIES)
    assert_type(weft.is_patched(), bool)
    try:
        weft.unpatch(timeout=1)
    except weft.StillRunning as error:
        assert_type(error.fibers, list[str])
    except (weft.Timeout, weft.Closed, weft.Cancelled):
        pass
    with weft.patched(exclude=["libx*"], timeout=1) as scope:
        assert_type(scope, weft.patched)

    @weft.patched()
    def decorated(number: int) -> str:
        return str(number)

    assert_type(decorated(1), str)
    assert_type(weft.report(), dict[str, Any])
    assert_type(weft.__version__, str)


class Counter(actor.Actor):
    count = 0

    def add(self, n: int) -> int:
        self.count += n
        return self.count


class CounterProxy(ActorMemberMixin, actor.ActorProxy[Counter]):
    count = proxy_field(Counter.count)
    add = proxy_method(Counter.add)


def actors(future: actor.Future[int]) -> None:
    ref = Counter.start()
    assert_type(ref, actor.ActorRef[Counter])
    assert_type(ref.actor_class, type[Counter])
    assert_type(ref.proxy(), actor.ActorProxy[Counter])
    assert_type(ref.ask("message", block=False), actor.Future[Any])
    assert_type(ref.stop(), bool)
    assert_type(ref.stop(block=False), actor.Future[bool])
    assert_type(future.get(timeout=1), int)
    assert_type(future.map(str), actor.Future[str])
    assert_type(actor.get_all([future]), list[int])
    assert_type(actor.ActorRegistry.get_by_class(Counter), list[actor.ActorRef[Counter]])
    proxy = cast(CounterProxy, ref.proxy())
    assert_type(proxy.add(1), actor.Future[int])
    assert_type(proxy.count.get(), int)


def heap_figures() -> None:
    assert_type(heap.info().heap_used, int)
    used, mapped, count = heap.info()
    assert_type(used + mapped + count, int)
    assert_type(heap.heap_info(), heap.pheap)
    assert_type(heap.heap_info()._asdict(), dict[str, Any])
    assert_type([arena.fragmented for arena in heap.arenas()], list[int])
    assert_type(heap.python_info().allocator, str)
    assert_type(heap.trim(), bool)
    assert_type(heap.allocator(), str)
    heap.heap_trim()
