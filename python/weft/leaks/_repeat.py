"""Tests whose body is called again and again."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, overload

from weft.leaks._check import report_on, warn_of_uncertainty
from weft.leaks._checkers import Checkers
from weft.leaks._garbage import name_of
from weft.leaks._options import Options, require_callable, require_repeatable

P = ParamSpec("P")

IS_LEAK_TEST = "__weft_leak_test__"


def options_of(where: str, given: Mapping[str, Any], base: Options) -> Options:
    """`base`, with what is given by name. `checkers` may be their names, too.

    TypeError, ValueError: a wrong option; the text begins with `where`.
    """
    known = [field.name for field in dataclasses.fields(Options)]
    if unknown := [name for name in given if name not in known]:
        raise TypeError(f"{where}: there is no option {', '.join(map(repr, unknown))}: there are {', '.join(known)}")
    changes = dict(given)
    try:
        names = changes.get("checkers")
        if isinstance(names, str):
            changes["checkers"] = Checkers.only(names)
        elif isinstance(names, (list, tuple, set, frozenset)):
            changes["checkers"] = Checkers.only(*names)
        options = dataclasses.replace(base, **changes)
        options.validate()
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from None
    return options


def numbered(call: Callable[[], object]) -> Callable[[], None]:
    """Calls it; what it raises is raised with a note which call it was. One came before, and succeeded."""
    made = 1

    def counted() -> None:
        nonlocal made
        made += 1
        try:
            call()
        except BaseException as error:
            error.add_note(f"This was call {made:,} of a leak test: those before it succeeded.")
            raise

    return counted


@overload
def leak_test(fun: Callable[P, object], /) -> Callable[P, None]: ...
@overload
def leak_test(**options: Any) -> Callable[[Callable[P, object]], Callable[P, None]]: ...
def leak_test(fun: Callable[..., object] | None = None, /, **options: Any) -> Any:
    """Make a test a leak test: `@leak_test` or `@leak_test(times=50)`, above a method of a TestCase or a function.

    Its body is called again and again, with the same arguments; setUp() and tearDown() are run once, around all calls.
    It raises weft.leaks.Error if it leaks, and what the body raises. The options are those of `Options`; checkers may be
    names, as "memory" or ("fds", "files"). TypeError, ValueError: a wrong option, or no plain function.
    """
    if fun is None:
        return functools.partial(_leak_test, options)
    return _leak_test(options, fun)


def _leak_test(options: Mapping[str, Any], fun: Callable[..., object]) -> Callable[..., None]:
    require_callable("fun", fun)
    chosen = options_of("leak_test()", options, Options())
    require_repeatable("leak_test()", fun)

    @functools.wraps(fun)
    def test(*args: Any, **kwargs: Any) -> None:
        fun(*args, **kwargs)
        report = report_on(numbered(lambda: fun(*args, **kwargs)), fun, chosen)
        if report.error is not None:
            raise report.error
        if report.uncertain:
            warn_of_uncertainty(name_of(fun))

    setattr(test, IS_LEAK_TEST, True)
    return test
