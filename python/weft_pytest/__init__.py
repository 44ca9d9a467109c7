"""Weft's pytest plugin: leak tests. It loads nothing of Weft until a test asks for it. (PYTEST_DONT_REWRITE)

pytest loads it wherever Weft is installed; `-p no:weft_pytest` leaves it out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from weft.leaks import Options, Report

__all__ = ["leak_check"]

_MARKERS = (
    "leaks(**options): the test is called again and again, and fails if it leaks; options: those of weft.leaks.Options,"
    " as times=50, checkers='memory'",
    "no_leaks(reason): --leaks leaves this test as it is",
)

# The options of a test that is run as a leak test; set from its setup on.
PLAN = pytest.StashKey["Options"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    def add(name: str, text: str, **keywords: Any) -> None:
        group.addoption(f"--leaks-{name}", default=None, help=text, **keywords)

    group = parser.getgroup("leaks", "leak tests (weft)")
    group.addoption("--leaks", action="store_true", help="run every selected test as a leak test, unless marked no_leaks")
    add("times", "calls in the first run of a leak test (default: 200)", metavar="N", type=int)
    add("time-limit", "seconds for the runs of one leak test (default: 10)", metavar="SECONDS", type=float)
    add("svg", "write the growth of each test that leaks memory into this folder, as SVG", metavar="DIR")
    parser.addini("leaks_times", "the default of --leaks-times", default="")
    parser.addini("leaks_time_limit", "the default of --leaks-time-limit", default="")


def pytest_configure(config: pytest.Config) -> None:
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    for name, kind in (("leaks_times", int), ("leaks_time_limit", float)):
        given, where = config.getoption(name), "--" + name.replace("_", "-")
        if given is None and (text := config.getini(name)):
            where = name
            try:
                given = kind(text)
            except ValueError:
                raise pytest.UsageError(f"{where}: {text!r} is no number") from None
        if given is not None and not given > 0:
            raise pytest.UsageError(f"{where} must be more than 0, not {given}")
        setattr(config.option, name, given)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not isinstance(item, pytest.Function):
        return
    if item.config.getoption("leaks") or item.get_closest_marker("leaks") is not None:
        from weft.leaks import _pytest

        if (plan := _pytest.plan(item)) is not None:
            item.stash[PLAN] = plan


def _is_unittest(item: pytest.Function) -> bool:
    unittest = sys.modules.get("unittest")
    return unittest is not None and item.cls is not None and issubclass(item.cls, unittest.TestCase)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """The first call is pytest's, and what is raised there is as ever; ours come after it."""
    if PLAN not in pyfuncitem.stash or _is_unittest(pyfuncitem):
        return (yield)
    from weft.leaks import _pytest

    repeated = _pytest.Repeated(pyfuncitem, pyfuncitem.stash[PLAN])
    result = yield
    repeated.function()
    return result


# The innermost of the wrappers: what is done here is still captured.
@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """As pytest_pyfunc_call(), for unittest's: pytest has these run by unittest."""
    if PLAN not in item.stash or not isinstance(item, pytest.Function) or not _is_unittest(item):
        return (yield)
    from weft.leaks import _pytest

    repeated = _pytest.Repeated(item, item.stash[PLAN])
    yield
    repeated.case()


@pytest.fixture
def leak_check(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """`leak_check(fun, *args, **options)`: the weft.leaks.Report on a function that does not leak.

    Where it does, the weft.leaks.Error is raised, and the test fails. Options are those of weft.leaks.Options; --leaks-times
    and --leaks-time-limit are their defaults. Raises what the function raises; TypeError, ValueError: a wrong option.
    """
    from weft.leaks import _pytest

    return _pytest.checker(request.node)
