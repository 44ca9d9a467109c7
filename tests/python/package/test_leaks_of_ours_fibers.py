"""Fibers, scopes, groups, channels, select() and patch(): no call of theirs leaks, whatever comes of it.

CASES has what each function calls: test_leaks_of_ours.py compares that with what is public.
"""

import asyncio
import contextlib
import os
import threading

import pytest

import weft
from public_calls import ends, raises, refuses


class Failed(Exception):
    pass


def fail(*_):
    raise Failed


def wait():
    weft.sleep(1000)


def await_fiber(fiber):
    async def wait_for_it():
        return await fiber

    return weft.run_async(wait_for_it())


# --- Fibers.


def a_fiber_returns():
    called = []
    fiber = weft.spawn(lambda a, b=0: [a, b], 1, b=2, name="a name")
    fiber.add_done_callback(called.append)
    fiber.join()
    fiber.join(timeout=1)
    assert fiber.result() == [1, 2] and fiber.exception() is None
    assert isinstance(fiber, weft.Fiber) and fiber.done() and not fiber.cancelled() and not fiber.cancel()
    assert fiber.name == "a name" and fiber.id > 0 and "test_leaks" in fiber.spawned_at and repr(fiber)
    fiber.add_done_callback(called.append)
    assert called == [fiber, fiber]


def a_fiber_fails():
    fiber = weft.spawn(fail)
    raises(Failed, fiber.result)
    assert type(fiber.exception()) is Failed
    fiber.add_done_callback(lambda _: None)
    refuses(TypeError, fiber.add_done_callback, 5)


def a_fiber_is_cancelled():
    fiber = weft.spawn(wait)
    refuses(weft.Timeout, fiber.join, 0.0001)
    refuses(weft.Timeout, fiber.result, timeout=0.0001)
    refuses(weft.Timeout, fiber.exception, timeout=0)
    for each in (fiber.join, fiber.result, fiber.exception):
        ends(each)
    assert fiber.cancel()
    raises(weft.Cancelled, fiber.result)
    assert fiber.cancelled()
    unborn = weft.spawn(list, range(100))
    unborn.cancel()
    unborn.join()


def spawn_is_refused():
    refuses(TypeError, weft.spawn)
    refuses(TypeError, weft.spawn, 5)
    refuses(TypeError, weft.spawn, fail, name=5)


def a_fiber_looks_at_itself():
    def look():
        return weft.current().id, threading.current_thread().name

    fiber = weft.spawn(look, name="me")
    assert fiber.result() == (fiber.id, "me")
    assert weft.current() is None


def sleeping():
    weft.start()
    assert weft.running()
    weft.sleep(0.00001)
    weft.sleep(-1)
    weft.yield_now()
    ends(wait)
    refuses(TypeError, weft.sleep, "long")
    refuses(ValueError, weft.sleep, float("nan"))


def to_a_thread():
    assert weft.to_thread(lambda a, b: [a, b], 1, b=2) == [1, 2]
    refuses(Failed, weft.to_thread, fail)
    refuses(TypeError, weft.to_thread, 5)
    raises(Failed, weft.spawn(weft.to_thread, fail).result)


def coroutines():
    async def give(value):
        await asyncio.sleep(0)
        return value

    async def fails():
        raise Failed

    assert weft.run_async(give([1])) == [1]
    refuses(Failed, weft.run_async, fails())
    refuses(TypeError, weft.run_async, 5)
    assert await_fiber(weft.spawn(lambda: [1])) == [1]
    raises(Failed, lambda: await_fiber(weft.spawn(fail)))


def a_cancelled_coroutine():
    ends(lambda: weft.run_async(asyncio.sleep(1000)))


# --- Scopes.


def time_limits():
    with weft.timeout(1000) as scope:
        assert not scope.expired and scope.remaining > 900
        weft.sleep(0)
    with contextlib.suppress(weft.Timeout), weft.timeout(0.00001) as scope:
        wait()
    assert scope.expired and repr(scope)
    with weft.timeout(None), contextlib.suppress(Failed):
        fail()
    refuses(TypeError, weft.timeout)
    refuses(TypeError, weft.timeout, "long")
    refuses(ValueError, weft.timeout, float("nan"))


def shields():
    def shielded():
        with weft.shield():
            weft.sleep(0.00001)
            with contextlib.suppress(weft.Timeout), weft.timeout(0.00001):
                wait()

    fiber = weft.spawn(shielded)
    weft.yield_now()
    fiber.cancel()
    fiber.join()
    with contextlib.suppress(Failed), weft.shield():
        fail()


def a_group_succeeds():
    with weft.TaskGroup() as group:
        fibers = [group.spawn(list, range(3), name="in a group") for _ in range(3)]
    assert all(fiber.result() == [0, 1, 2] for fiber in fibers)
    refuses(RuntimeError, group.spawn, list)
    group.cancel()


def a_group_fails():
    def one_of_several():
        with weft.TaskGroup() as group:
            group.spawn(wait)
            group.spawn(fail)

    def its_block():
        with weft.TaskGroup() as group:
            group.spawn(wait)
            fail()

    refuses(ExceptionGroup, one_of_several)
    refuses(ExceptionGroup, its_block)


def a_group_is_cancelled():
    with weft.TaskGroup() as group:
        group.spawn(wait)
        group.cancel()

    def waits():
        with weft.TaskGroup() as inner:
            inner.spawn(wait)

    ends(waits)


# --- Channels.


def a_channel_of_some():
    channel = weft.Channel(2)
    channel.send([1])
    assert channel.try_send([2]) and not channel.try_send([3])
    refuses(weft.Timeout, channel.send, [3], timeout=0.00001)
    assert len(channel) == channel.capacity == 2 and not channel.closed and repr(channel)
    assert channel.receive() == [1] and channel.try_receive() == [2]
    assert channel.try_receive("none") == "none"
    refuses(weft.Timeout, channel.receive, timeout=0.00001)

    def send_all():
        for i in range(5):
            channel.send([i])
        channel.close()

    fiber = weft.spawn(send_all)
    assert list(channel) == [[0], [1], [2], [3], [4]]
    fiber.join()
    for call in (channel.receive, channel.try_receive, lambda: channel.send(1), lambda: channel.try_send(1)):
        refuses(weft.Closed, call)
    assert channel.closed and not channel.close()


def a_channel_with_items_left():
    channel = weft.Channel(None)
    for _ in range(10):
        channel.send([1, 2])
    channel.send(channel)  # itself: only the collector ends that
    channel.try_receive()
    while channel.try_receive("none") != channel:
        pass
    channel.send([1])


def waits_for_a_channel_that_end():
    channel = weft.Channel()
    ends(lambda: channel.send([1]))
    ends(channel.receive)
    fibers = weft.spawn(channel.receive), weft.spawn(lambda: list(channel))
    weft.yield_now()
    channel.close()
    raises(weft.Closed, fibers[0].result)
    fibers[1].join()


def a_channel_is_refused():
    refuses(ValueError, weft.Channel, -1)
    refuses(TypeError, weft.Channel, "many")
    refuses(TypeError, weft.Channel().send)
    refuses(TypeError, weft.Channel().receive, "long")


def cases_of_select():
    empty, full = weft.Channel(), weft.Channel(1)
    full.send([1])
    reader, writer = os.pipe()
    try:
        assert weft.select(empty, full) == (1, [1])
        assert weft.select(empty, weft.sending(full, [2])) == (1, None)
        assert weft.select(weft.sending(full, [3]), weft.readable(reader), weft.writable(writer))[0] == 2
        assert weft.select(empty, weft.after(0.00001))[0] == 1
        assert weft.select(empty, wait=False) == (None, None)
        assert weft.select(empty, weft.spawn(list))[0] == 1
        assert weft.wait_writable(writer) and not weft.wait_readable(reader, timeout=0.00001)
        ends(lambda: weft.wait_readable(reader))
        ends(lambda: weft.select(empty, weft.readable(reader)))
        assert repr(weft.sending(empty, [4]))
    finally:
        os.close(reader)
        os.close(writer)


def select_is_refused():
    channel = weft.Channel()
    channel.close()
    refuses(weft.Closed, weft.select, channel)
    refuses(weft.Closed, weft.select, weft.sending(channel, [1]))
    refuses(TypeError, weft.select, 5)
    refuses(TypeError, weft.select)
    refuses(TypeError, weft.Case)
    refuses(TypeError, weft.sending, 5, [1])
    refuses(TypeError, weft.after, "long")
    for call in (weft.readable, weft.writable, weft.wait_readable, weft.wait_writable):
        refuses(TypeError, call, "no file")
    refuses(OSError, weft.wait_readable, 900)
    refuses(OSError, weft.wait_writable, 900)
    refuses(OSError, weft.select, weft.readable(900))


def mapping():
    assert list(weft.map(lambda i: [i], range(5), concurrency=2)) == [[0], [1], [2], [3], [4]]
    assert len(list(weft.map(lambda i: [i], range(5), ordered=False))) == 5
    refuses(Failed, list, weft.map(fail, range(5)))
    left = weft.map(lambda i: [i], range(100), concurrency=2)
    next(left)
    left.close()
    next(weft.map(lambda i: [i], range(100), concurrency=2))  # and goes away
    ends(lambda: list(weft.map(lambda _: wait(), range(3))))
    refuses(TypeError, weft.map, 5, [])
    refuses(ValueError, weft.map, fail, [], concurrency=0)
    refuses(TypeError, weft.map, fail, 5)


def errors():
    kept = [weft.Cancelled(), weft.Timeout("why"), weft.Closed(), weft.StillRunning(["a name"] * 20)]
    assert all(str(each) for each in kept[1:2]) and kept[3].fibers
    for each in kept:
        with contextlib.suppress(type(each)):
            raise each


# --- Patches.


def patched_and_not():
    weft.patch()
    assert weft.is_patched()
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    weft.unpatch()
    with weft.patched(only={"sockets"}, exclude={"files", "libnothing*"}, timeout=10) as scope:
        assert repr(scope)

    @weft.patched(only=["sleeping"])
    def decorated():
        return weft.report()["patched"]

    assert decorated()
    refuses(TypeError, lambda: weft.patched()(wait_async))


async def wait_async():
    pass


def a_patch_is_refused():
    refuses(RuntimeError, weft.unpatch)
    refuses(TypeError, weft.patch, only="sockets")
    refuses(ValueError, weft.patch, only={"no such"})
    refuses(ValueError, weft.patch, exclude={"locks"})
    refuses(TypeError, weft.patched, {"sockets"})
    refuses(RuntimeError, weft.patched().__exit__, None, None, None)


def a_patch_that_is_still_in_use():
    go = threading.Event()
    weft.patch()
    thread = threading.Thread(target=go.wait)
    thread.start()
    refuses(weft.StillRunning, weft.unpatch, timeout=0.0001)
    go.set()
    thread.join()
    weft.unpatch()


def what_is_told():
    assert weft.report()["running"]
    assert not weft.is_patched()
    assert weft.get_include() and weft.get_library()


CASES = {
    a_fiber_returns: "spawn Fiber Fiber.join Fiber.result Fiber.exception Fiber.done Fiber.cancelled Fiber.cancel Fiber.name Fiber.id"
    " Fiber.spawned_at Fiber.add_done_callback",
    a_fiber_fails: "spawn Fiber.result Fiber.exception Fiber.add_done_callback",
    a_fiber_is_cancelled: "spawn Fiber.join Fiber.result Fiber.exception Fiber.cancel Fiber.cancelled",
    spawn_is_refused: "spawn",
    a_fiber_looks_at_itself: "spawn current",
    sleeping: "start running sleep yield_now",
    to_a_thread: "to_thread",
    coroutines: "run_async",
    a_cancelled_coroutine: "run_async",
    time_limits: "timeout timeout.expired timeout.remaining Timeout",
    shields: "shield",
    a_group_succeeds: "TaskGroup TaskGroup.spawn TaskGroup.cancel",
    a_group_fails: "TaskGroup TaskGroup.spawn",
    a_group_is_cancelled: "TaskGroup TaskGroup.spawn TaskGroup.cancel",
    a_channel_of_some: "Channel Channel.send Channel.try_send Channel.receive Channel.try_receive Channel.close Channel.closed"
    " Channel.capacity",
    a_channel_with_items_left: "Channel Channel.send Channel.try_receive",
    waits_for_a_channel_that_end: "Channel.send Channel.receive Channel.close",
    a_channel_is_refused: "Channel Channel.send Channel.receive",
    cases_of_select: "select sending readable writable after wait_readable wait_writable",
    select_is_refused: "select Case sending readable writable after wait_readable wait_writable",
    mapping: "map",
    errors: "Cancelled Timeout Closed StillRunning",
    patched_and_not: "patch unpatch patched is_patched report",
    a_patch_is_refused: "patch unpatch patched",
    a_patch_that_is_still_in_use: "patch unpatch StillRunning",
    what_is_told: "report is_patched get_include get_library",
}
MODULE = ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_no_leak(case, leaks_nothing):
    leaks_nothing(case)
