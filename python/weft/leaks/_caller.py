"""Calls that have a time limit."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import weft
from weft import _weft
from weft.leaks._garbage import name_of

Caller = _weft._LeakCaller


@contextlib.contextmanager
def limited(fun: Callable[..., Any], seconds: float) -> Iterator[Caller]:
    """Gives what calls functions. If one of its calls does not return for so long, it is interrupted: as by Ctrl-C where
    this is the main thread, in another one as soon as it runs Python again; in a fiber its waits end. weft.Timeout is
    raised then. Where that does not help at once, standard error is told of `fun`, with the stacks of all threads."""
    text = f"a call of {name_of(fun)!r} has not returned for {seconds:g} s: raise call_limit if it may take so long"
    thread = threading.current_thread()

    def interrupt() -> None:
        if sys.__stderr__ is not None:
            with contextlib.suppress(AttributeError, ValueError, OSError):  # of a stream that has no descriptor
                faulthandler.dump_traceback(sys.__stderr__)
        if thread.ident is None:
            return
        if thread is not threading.main_thread():
            _weft._interrupt_thread(thread.ident)
        elif signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.pthread_kill(thread.ident, signal.SIGINT)

    caller = Caller(seconds, f"weft.leaks: {text}\n", interrupt)
    try:
        try:
            yield caller
        finally:
            caller.close()  # what it raised arrives here at the latest
    except KeyboardInterrupt:
        if not caller.late:
            raise
    except weft.Timeout as error:
        if caller.expired:
            raise weft.Timeout(text) from error
        raise
    if caller.late:
        raise weft.Timeout(text)
