"""patch() and unpatch()."""

from __future__ import annotations

from weft import _weft
from weft._errors import Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])

FAMILIES = ("sockets", "polling", "sleeping", "locks", "threads", "names", "files", "children")
"""Groups of blocking calls that patch() makes cooperative: docs/reference/blocking-calls.md lists them."""


class StillRunning(Timeout):
    """unpatch(): threads that became fibers have not ended in time. `fibers` has their names."""

    __module__ = "weft"

    def __init__(self, fibers: list[str]) -> None:
        super().__init__(
            f"{len(fibers)} threads that became fibers have not ended: {', '.join(fibers[:10])}"
            f"{', ...' if len(fibers) > 10 else ''}; join them first, or give unpatch() a longer timeout"
        )
        self.fibers = fibers


# The numbers of the patches in force that patch() made. Only _weft changes it, in step with them whatever is raised.
_stack: list[int] = []


def _names(argument: str, names: Iterable[str]) -> set[str]:
    if isinstance(names, str):
        raise TypeError("only and exclude take several names: {'sockets'} and not 'sockets'")
    try:
        every = list(names)
    except TypeError:
        raise TypeError(f"{argument} takes names, as in {{'sockets'}}, not {type(names).__name__}") from None
    for name in every:
        if not isinstance(name, str):
            raise TypeError(f"{argument} takes names, as in {{'sockets'}}, not {name!r}")
    return set(every)


def _choose(only: Iterable[str] | None, exclude: Iterable[str]) -> tuple[int, list[str]]:
    chosen = set(FAMILIES) if only is None else _names("only", only)
    if unknown := chosen - set(FAMILIES):
        raise ValueError(f"there is no family {', '.join(sorted(unknown))}: the families are {', '.join(FAMILIES)}")
    excluded = _names("exclude", exclude)
    libraries = excluded - set(FAMILIES)
    for name in libraries:
        if ".so" not in name and not any(character in name for character in "*?["):
            raise ValueError(
                f"exclude: {name!r} is neither a family ({', '.join(FAMILIES)}) nor a pattern of a library's file name"
                " ('libgrpc*')"
            )
    chosen -= excluded
    if "threads" in chosen:
        if "locks" in excluded:
            raise ValueError(
                "exclude: threads that are fibers need cooperative locks, since Thread.start() waits by one: exclude"
                " 'threads' as well"
            )
        chosen.add("locks")
    return sum(1 << place for place, family in enumerate(FAMILIES) if family in chosen), sorted(libraries)


def _refuse_others() -> None:
    import sys

    eventlet = sys.modules.get("eventlet.patcher")
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and getattr(gevent, "saved", None):
        raise RuntimeError(
            "gevent has patched this process, and its sockets and threads would not reach the calls that weft patches:"
            " take gevent.monkey.patch_all() out"
        )
    if eventlet is not None and getattr(eventlet, "already_patched", None):
        raise RuntimeError("eventlet has patched this process: take eventlet.monkey_patch() out")


def patch(*, only: Iterable[str] | None = None, exclude: Iterable[str] = ()) -> None:
    """Make blocking calls cooperative, and threads that are started from now on fibers.

    At any moment, whatever was imported and connected before; on the main thread, which then runs the fibers. What
    runs already as an OS thread stays one. Each patch() needs an unpatch(); what the newest says counts alone.

    only: families to patch (FAMILIES); "threads" brings "locks" along, which Thread.start() waits by. exclude:
    families, and patterns of library file names ("libgrpc*") whose calls are left alone.
    """
    families, libraries = _choose(only, exclude)
    _refuse_others()
    _weft._enter_patch(families, libraries, _stack)


def unpatch(timeout: float | None = None) -> None:
    """Take back the newest patch().

    The last one waits until every thread that became a fiber has ended, and raises StillRunning after `timeout`
    seconds, with everything patched as before; so does what a signal handler raises, as Ctrl-C. Fibers that spawn()
    started go on; a call that waits ends as it began.

    What makes a fiber a thread (identity, signals, loading of libraries) stays routed as long as the runtime lives:
    report()["routed"] stays true, and is_patched() turns false.
    """
    if not _stack:
        raise RuntimeError("unpatch() without a patch()")
    _leave(_stack, timeout)


def _leave(numbers: list[int], timeout: float | None) -> None:
    if fibers := _weft._leave_patch(numbers, timeout):
        raise StillRunning(fibers)


def is_patched() -> bool:
    """Is a patch() in force, or does the program run under `weft run`?"""
    return bool(_weft._counts()["patched"])


def _keywords_only(init: F) -> F:
    def checked(self: patched, *positional: object, **keywords: Any) -> None:
        if positional:
            raise TypeError("patched() takes keywords only; as a decorator it needs parentheses: @weft.patched()")
        init(self, **keywords)

    checked.__wrapped__ = init  # type: ignore[attr-defined]  # functools need not be loaded for that
    return checked  # type: ignore[return-value]


class patched:
    """`with patched(...)`: a patch() for a block; as a decorator, for each call of a function.

    May be left in another order than entered. Leaving raises StillRunning as unpatch(timeout) does. No decorator for
    generators and async functions, whose body does not run in the call: TypeError; put the block inside.
    """

    __module__ = "weft"

    @_keywords_only
    def __init__(
        self, *, only: Iterable[str] | None = None, exclude: Iterable[str] = (), timeout: float | None = None
    ) -> None:
        self._choice = _choose(only, exclude)
        self._timeout = timeout
        self._numbers: list[int] = []

    def __enter__(self) -> patched:
        _refuse_others()
        before = len(self._numbers)
        try:
            _weft._enter_patch(*self._choice, self._numbers)
        except BaseException:
            if len(self._numbers) > before:  # Ctrl-C just after it: the block is not entered
                _leave(self._numbers, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._numbers:
            raise RuntimeError("weft.patched: left more often than it was entered")
        _leave(self._numbers, self._timeout)

    def __repr__(self) -> str:
        families, libraries = self._choice
        names = [family for place, family in enumerate(FAMILIES) if families >> place & 1]
        text = "all" if len(names) == len(FAMILIES) else ", ".join(names) or "nothing"
        return f"<weft.patched: {text}{'; not by ' if libraries else ''}{', '.join(libraries)}>"

    def __call__(self, function: F) -> F:
        from functools import wraps
        from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction

        if iscoroutinefunction(function) or isgeneratorfunction(function) or isasyncgenfunction(function):
            raise TypeError(
                f"@weft.patched() would patch nothing of the body of {getattr(function, '__qualname__', function)}, which"
                " does not run in the call: put `with weft.patched():` inside"
            )

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            scope = patched.__new__(patched)
            scope._choice, scope._timeout, scope._numbers = self._choice, self._timeout, []
            with scope:
                return function(*args, **kwargs)

        return call  # type: ignore[return-value]


def report() -> dict[str, Any]:
    """What is in force, and what was counted so far.

    patched, routed (see unpatch()), running: bool. backend: "io_uring", "epoll" or None. carriers, fibers_alive, fibers_peak,
    fibers_spawned, switches, stalls (times that a carrier stood still for 5 ms while others could have run),
    offload_threads: int.
    """
    counts: dict[str, Any] = _weft._counts()
    return counts
