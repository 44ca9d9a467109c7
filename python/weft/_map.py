"""map(): the same for many items, some at a time."""

from __future__ import annotations

from weft import _weft
from weft._errors import Cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeVar

    T = TypeVar("T")
    R = TypeVar("R")


def map(
    function: Callable[[T], R], items: Iterable[T], *, concurrency: int = 100, ordered: bool = True
) -> Iterator[R]:
    """Yield function(item) for each item, with up to `concurrency` calls at a time, each in a fiber.

    In the order of the items; ordered=False: as they end. Lazy: items are taken when there is a fiber for them, and
    no more than twice `concurrency` results wait to be asked for. What a call raises is raised here, and ends it:
    fibers that still run are cancelled, as when the iterator is closed or goes away.
    """
    if not callable(function):
        raise TypeError(f"map() takes a function, not {type(function).__name__}")
    if concurrency < 1:
        raise ValueError("map(concurrency=...) must be 1 or more")
    return _results(function, iter(items), concurrency, ordered)


def _results(function: Callable[[T], R], items: Iterator[T], concurrency: int, ordered: bool) -> Iterator[R]:
    done: _weft.Channel[tuple[int, bool, Any]] = _weft.Channel(None)
    # Tickets limit how far the workers run ahead of who asks.
    tickets: _weft.Channel[None] = _weft.Channel(None)
    for _ in range(2 * concurrency):
        tickets.send(None)
    turn: _weft.Channel[None] = _weft.Channel(1)
    turn.send(None)
    taken = 0
    exhausted = False

    def work() -> None:
        try:
            while call_with_next():
                pass
        except BaseException as error:  # a wait was ended: by the end of the iterator, or the worker alone was cancelled
            done.send((_STOPPED, False, error))

    # Sending to a channel without limit does not wait, and so is done even where the fiber was cancelled.
    def call_with_next() -> bool:
        nonlocal taken, exhausted
        for _ in tickets:
            break
        else:
            return False
        turn.receive()  # taking an item may wait
        try:
            if exhausted:
                return False
            number = taken
            item = next(items)
            taken = number + 1
        except StopIteration:
            exhausted = True
            done.send((_NO_MORE, True, None))  # who asks may be waiting for a result
            return False
        except BaseException as error:
            exhausted = True
            taken = number + 1
            done.send((number, False, error))
            return False
        finally:
            turn.send(None)
        add_worker()
        try:
            value = function(item)
        except BaseException as error:
            done.send((number, False, error))
            return not isinstance(error, Cancelled)
        done.send((number, True, value))
        return True

    fibers: list[_weft.Fiber[None]] = []

    # Each that takes an item starts the next, so there are no more than there are items for.
    def add_worker() -> None:
        if len(fibers) < concurrency and not exhausted:
            fibers.append(_weft.spawn(work, name="map"))

    waiting: dict[int, tuple[bool, Any]] = {}
    given = 0
    try:
        add_worker()
        while True:
            if exhausted and given == taken:
                return
            if ordered and given in waiting:
                fine, value = waiting.pop(given)
            else:
                number, fine, value = done.receive()
                if number == _NO_MORE:
                    continue
                if number == _STOPPED:
                    break
                if ordered and number != given:
                    waiting[number] = (fine, value)
                    continue
            given += 1
            if not fine:
                break
            tickets.send(None)
            yield value
            del value
        try:
            raise value
        finally:
            del value  # it holds this frame
    finally:
        exhausted = True
        tickets.close()
        for fiber in fibers:
            fiber.cancel()
        try:
            _wait_for(fibers)
        finally:
            # The functions know each other, and failures know them. Without this only the collector would free all that,
            # with the results that nobody asked for.
            del add_worker
            done.close()
            list(done)


# Whatever a signal's handler raises meanwhile, no fiber is left behind. But with the interpreter none runs any more.
def _wait_for(fibers: list[_weft.Fiber[None]]) -> None:
    if _weft._finalizing():
        return
    raised: BaseException | None = None
    with _weft.shield():
        for fiber in fibers:
            while not fiber.done():
                try:
                    fiber.join()
                except BaseException as error:
                    raised = raised or error
    if raised is not None:
        raise raised


_NO_MORE, _STOPPED = -1, -2
