"""asyncio beside fibers."""

from __future__ import annotations

import _thread
import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

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
            _start_os_thread(_run_loop, _loop)
        return _loop


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    threading.current_thread().name = "weft-asyncio"
    loop.run_forever()


# An OS thread, since a fiber that stands for a thread would have to end before the last unpatch(). (Under `weft run`,
# which is for good, it is one all the same.) Nothing here waits, so no other fiber runs within the scope of no family;
# and another is in force, so that leaving it does not wait either.
def _start_os_thread(function: Callable[..., object], *args: Any) -> None:
    if _weft._patches() == 0:
        _thread.start_new_thread(function, args)
        return
    numbers: list[int] = []
    _weft._enter_patch(0, [], numbers)
    try:
        _thread.start_new_thread(function, args)
    finally:
        _weft._leave_patch(numbers, None)


# Kept, and not closed: what is registered in its epoll set is its parent's too.
_of_parents: list[asyncio.AbstractEventLoop] = []


# Its thread is not in the child, and the lock may have been another's.
def _after_fork_in_child() -> None:
    global _lock, _loop
    _lock = threading.Lock()
    if _loop is not None:
        _of_parents.append(_loop)
        _loop = None


os.register_at_fork(after_in_child=_after_fork_in_child)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    if not asyncio.iscoroutine(coroutine):
        raise TypeError(f"run_async() takes a coroutine, not {type(coroutine).__name__}: call the async function")
    loop = _shared_loop()
    if asyncio._get_running_loop() is loop:
        coroutine.close()
        raise RuntimeError("run_async() in a coroutine that runs by run_async() would wait for itself: await it instead")
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
    return tasks.pop().result()  # what it raises, and the task keeps, holds this frame


# --- Awaiting a fiber. The loop may run on the thread that runs the fibers, and must let them run while it waits.


class _Loop:
    """A loop in which fibers are awaited: how often, and how to have it wait as it did before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.awaited = 0
        self._selector = getattr(loop, "_selector", None)
        self._patched: patched | None = None

    # What the loop waits for is a descriptor, too: of its epoll set. Its selector alone is changed, since patches
    # begin and end as the program likes, and the newest counts alone.
    def share(self) -> None:
        self.awaited += 1
        if self.awaited > 1 or not _weft._in_fiber():  # an OS thread that waits holds up nobody
            return
        selector = self._selector
        if selector is None or not hasattr(selector, "fileno") or not hasattr(selector, "__dict__"):
            if not is_patched():  # a loop that is not made of Python
                self._patched = patched(only={"polling"})
                self._patched.__enter__()
            return
        select = selector.select

        def wait(timeout: float | None = None) -> Any:
            if _ending:
                return select(timeout)
            if timeout is not None and timeout <= 0:
                _weft.yield_now()
            else:
                _weft.wait_readable(selector, timeout)
            return select(0)

        selector.select = wait

    def keep(self) -> None:
        self.awaited -= 1
        if self.awaited > 0:
            return
        if self._patched is not None:
            self._patched.__exit__(None, None, None)
            self._patched = None
        elif self._selector is not None:
            vars(self._selector).pop("select", None)


_ending = False


# The program may run a loop still when no more is waited for fibers.
@atexit.register
def _end() -> None:
    global _ending
    _ending = True


_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()


def await_fiber(fiber: _weft.Fiber[T]) -> Generator[Any, None, T]:
    """Fiber.__await__: waits, in a coroutine, until the fiber has ended. Cancelling the task cancels the fiber, and
    waits for it as well, as for a task that is awaited."""
    cancelled: asyncio.CancelledError | None = None
    while not fiber.done():
        try:
            yield from await_callback(fiber.done, lambda tell: fiber.add_done_callback(lambda _: tell()))
        except asyncio.CancelledError as error:
            fiber.cancel()
            cancelled = error
    try:
        if cancelled is not None:
            raise cancelled
        return fiber.result()
    finally:
        del fiber, cancelled  # what is raised holds this frame


def await_callback(
    done: Callable[[], bool], add_done_callback: Callable[[Callable[[], None]], object]
) -> Generator[Any, None, None]:
    """Waits, in a coroutine, until done(): what `add_done_callback` is given is called then, anywhere."""
    loop = asyncio.get_running_loop()
    shared = _loops.get(loop)
    if shared is None:
        shared = _loops[loop] = _Loop(loop)
    ended: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not ended.done():
            ended.set_result(None)

    def tell() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle)

    shared.share()
    try:
        if not done():
            add_done_callback(tell)
            yield from ended
    finally:
        shared.keep()
