"""asyncio beside fibers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Generator
from contextlib import nullcontext
from typing import Any, TypeVar

from weft import _weft
from weft._patch import is_patched, patched

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def _shared_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="weft-asyncio", daemon=True).start()
        return _loop


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    if not asyncio.iscoroutine(coroutine):
        raise TypeError(f"run_async() takes a coroutine, not {type(coroutine).__name__}: call the async function")
    loop = _shared_loop()
    done: _weft.Channel[None] = _weft.Channel(None)
    tasks: list[asyncio.Task[T]] = []

    def begin() -> None:
        tasks.append(loop.create_task(coroutine))
        tasks[0].add_done_callback(lambda _: done.send(None))

    loop.call_soon_threadsafe(begin)
    try:
        done.receive()
    except BaseException:
        loop.call_soon_threadsafe(lambda: tasks[0].cancel())
        with _weft.shield():
            done.receive()
        raise
    return tasks[0].result()


def await_fiber(fiber: _weft.Fiber[T]) -> Generator[Any, None, T]:
    """Fiber.__await__: waits, in a coroutine, until the fiber has ended. Cancelling the task cancels the fiber."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def tell(_: object) -> None:
        def settle() -> None:
            if not ended.done():
                ended.set_result(None)

        if not loop.is_closed():
            loop.call_soon_threadsafe(settle)

    fiber.add_done_callback(tell)
    try:
        # The loop may run on the thread that runs the fibers, and must let them run while it waits.
        with patched(only={"polling"}) if not is_patched() else nullcontext():
            yield from ended
    except asyncio.CancelledError:
        fiber.cancel()
        raise
    return fiber.result()
