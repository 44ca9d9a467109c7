"""run_async(), and fibers that are awaited."""

import asyncio
import gc
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

import weft


def test_run_async():
    async def work(x):
        await asyncio.sleep(0.001)
        return x

    assert weft.run_async(work(3)) == 3
    began = time.monotonic()
    assert list(weft.map(lambda x: weft.run_async(work(x)), range(20))) == list(range(20))
    assert time.monotonic() - began < 10
    with pytest.raises(TypeError, match="call the async function"):
        weft.run_async(work)

    cancelled = []

    async def forever():
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(weft.Timeout):
        with weft.timeout(0.02):
            weft.run_async(forever())
    assert cancelled


@pytest.mark.parametrize("awaits", [False, True])
def test_what_failed_is_not_left_to_the_collector(awaits):
    class Failed(Exception):
        pass

    def fail():
        raise Failed

    async def work(fibers):
        if awaits:
            await fibers.pop()
        fail()

    def run():
        try:
            weft.run_async(work([weft.spawn(fail)] if awaits else []))
        except Failed as error:
            return weakref.ref(error)

    weft.run_async(three())
    gc.collect()
    gc.disable()
    try:
        seen = run()
        end = time.monotonic() + 10
        while seen() is not None:  # the loop's thread lets go of the task a little later
            assert time.monotonic() < end
            time.sleep(0.001)
    finally:
        gc.enable()


async def three():
    return 3


def run_program(text):
    """In an interpreter of its own, where no loop runs yet."""
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_its_thread_does_not_keep_unpatch_waiting():
    printed = run_program(
        """
import asyncio, threading, weft

async def where():
    await asyncio.sleep(0.001)
    return threading.current_thread().name

weft.patch()
print(weft.run_async(where()))
weft.unpatch(timeout=5)
print(weft.run_async(where()))
weft.patch()
print(weft.run_async(where()))
weft.unpatch(timeout=5)
"""
    )
    assert printed.split() == ["weft-asyncio"] * 3


def test_in_a_forked_child():
    assert weft.run_async(three()) == 3
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if weft.run_async(three()) == 3 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert weft.run_async(three()) == 3


def test_run_async_in_its_own_coroutine_is_refused():
    async def outer():
        return weft.run_async(three())

    with weft.timeout(20), pytest.raises(RuntimeError, match="await it instead"):
        weft.run_async(outer())


def test_awaited_from_asyncio():
    async def main():
        fiber = weft.spawn(lambda: (weft.sleep(0.01), 7)[1])
        assert await fiber == 7
        slow = weft.spawn(weft.sleep, 1000)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(slow, 0.01)
        return slow

    assert asyncio.run(main()).cancelled()


def nap_and_return(seconds):
    weft.sleep(seconds)
    return seconds


# Patched how, while asyncio.run() runs.
@pytest.fixture(params=[None, {"sockets"}, {"polling"}, set(weft.FAMILIES)], ids=["none", "sockets", "polling", "all"])
def families(request):
    if request.param is None:
        yield
        return
    with weft.patched(only=request.param):
        yield


@pytest.mark.usefixtures("families")
def test_several_are_awaited():
    async def wait_for(fiber):
        return await fiber

    async def main():
        fibers = [weft.spawn(nap_and_return, seconds) for seconds in (0.001, 0.02, 0.05)]
        return await asyncio.gather(*map(wait_for, fibers))

    with weft.timeout(20):
        assert asyncio.run(main()) == [0.001, 0.02, 0.05]


def test_what_is_patched_stays_so_while_one_is_awaited():
    patched = []

    async def main():
        fiber = weft.spawn(lambda: (weft.sleep(0.001), patched.append(weft.is_patched())))
        await fiber

    asyncio.run(main())
    with weft.patched(only={"sockets"}):
        asyncio.run(main())
    assert patched == [False, True]


@pytest.mark.usefixtures("families")
def test_cancelling_the_task_ends_the_fiber():
    log = []

    def work():
        try:
            weft.sleep(1000)
        finally:
            with weft.shield():
                weft.sleep(0.01)
            log.append("cleaned up")

    async def main():
        fiber = weft.spawn(work)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(fiber, 0.01)
        assert fiber.cancelled() and log == ["cleaned up"]
        task = asyncio.ensure_future(awaited(weft.spawn(work)))
        await asyncio.sleep(0.01)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log == ["cleaned up"] * 2

    async def awaited(fiber):
        await fiber

    with weft.timeout(20):
        asyncio.run(main())


def test_fibers_run_while_a_loop_polls_if_polling_is_patched():
    async def main():
        fiber = weft.spawn(nap_and_return, 0.001)
        await asyncio.sleep(0.05)
        return fiber

    with weft.patched(only={"polling"}):
        assert asyncio.run(main()).done()


def test_fibers_run_beside_a_loop_that_is_busy():
    async def main():
        fiber = weft.spawn(nap_and_return, 0.001)
        waiting = asyncio.ensure_future(awaited(fiber))
        end = time.monotonic() + 10
        while not fiber.done() and time.monotonic() < end:
            await asyncio.sleep(0)
        return await waiting

    async def awaited(fiber):
        return await fiber

    assert asyncio.run(main()) == 0.001


def test_a_loop_polls_by_itself_again_afterwards():
    selector = selectors.DefaultSelector()
    loop = asyncio.SelectorEventLoop(selector)

    async def main():
        await weft.spawn(nap_and_return, 0.001)

    loop.run_until_complete(main())
    loop.run_until_complete(asyncio.sleep(0.001))
    assert "select" not in vars(selector)
    loop.close()


def test_with_a_selector_that_has_no_descriptor():
    loop = asyncio.SelectorEventLoop(selectors.PollSelector())

    async def wait_for(fiber):
        return await fiber

    async def main():
        return await asyncio.gather(*[wait_for(weft.spawn(nap_and_return, s)) for s in (0.001, 0.02)])

    assert loop.run_until_complete(main()) == [0.001, 0.02]
    assert not weft.is_patched()
    loop.close()


def test_awaited_in_the_loop_of_run_async():
    async def main():
        return await weft.spawn(nap_and_return, 0.001)

    assert weft.run_async(main()) == 0.001
    with weft.patched():
        assert weft.run_async(main()) == 0.001
        thread = threading.Thread(target=lambda: results.append(asyncio.run(main())))
        results = []
        thread.start()
        thread.join()
        assert results == [0.001]
