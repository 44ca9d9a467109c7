"""Awaiting an actor's future."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, TypeVar

from weft import _asyncio
from weft.actor._names import Future

T = TypeVar("T")


def wait(future: Future[T]) -> Generator[Any, None, T]:
    """Future.__await__. Without an event loop of asyncio it blocks once it runs again, as Pykka's does."""
    if asyncio._get_running_loop() is None:
        yield
        return future.get()
    yield from _settled(future)
    return future.get()


def _settled(future: Future[Any]) -> Generator[Any, None, None]:
    for source in future._awaited():
        if source is future:
            yield from _asyncio.await_callback(future.done, future._add_done_callback)
        elif isinstance(source, Future):
            yield from _settled(source)
