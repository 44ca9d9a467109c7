"""pytest fixtures: `pytest_plugins = ["weft.process.fixtures"]` in a conftest.py, or `-p weft.process.fixtures`.

`reserved_port` and `reserve_ports` have ports that nobody else gets, also with pytest-xdist, whose workers are processes
of their own. `service()` makes fixtures of executors. (PYTEST_DONT_REWRITE: it may be imported before it is a plugin.)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

import pytest

from weft.process._executor import SimpleExecutor
from weft.process._ports import ReservedPort, reserve_port

__all__ = ["reserve_ports", "reserved_port", "service"]

E = TypeVar("E", bound=SimpleExecutor)
Scope = Literal["session", "package", "module", "class", "function"]


def service(make: Callable[..., E], *, scope: Scope = "function", name: str | None = None) -> Any:
    """A fixture that is the executor that `make` returns, started, and stopped when its scope ends.

    The parameters of `make` are fixtures. With `name`, it is found under that one, else under that of the variable it is
    assigned to. If the command ended meanwhile with an error, that is raised at the end, with what it wrote.

        database = service(lambda tmp_path_factory, reserve_ports: ..., scope="session")

    TypeError: `make` cannot be called; or, when the fixture is used, it did not return an executor.
    """
    if not callable(make):
        raise TypeError(f"service() takes a function that returns an executor, not {make!r}: as service(lambda: TCPExecutor(...))")

    parameters = inspect.signature(make).parameters
    asks = "request" in parameters

    def run(request: pytest.FixtureRequest, **values: Any) -> Iterator[E]:
        __tracebackhide__ = True
        executor = make(request=request, **values) if asks else make(**values)
        if not isinstance(executor, SimpleExecutor):
            raise TypeError(
                f"{request.fixturename}: what service() was given must return an executor that is not started, not {executor!r}"
            )
        with executor:
            yield executor

    run.__name__ = name or getattr(make, "__name__", "service").replace("<lambda>", "service")
    run.__doc__ = make.__doc__ or "A service, started: its executor."
    fixtures = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters.values() if each.name != "request"]
    request = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([request, *fixtures])  # type: ignore[attr-defined]
    return pytest.fixture(run, scope=scope, name=name)


@pytest.fixture(scope="session")
def reserve_ports() -> Iterator[Callable[[], ReservedPort]]:
    """A function that reserves one more port on each call; all are given back at the end of the session."""
    reserved: list[ReservedPort] = []

    def reserve() -> ReservedPort:
        reserved.append(reserve_port())
        return reserved[-1]

    yield reserve
    for port in reserved:
        port.release()


@pytest.fixture
def reserved_port() -> Iterator[ReservedPort]:
    """A port for one test."""
    with reserve_port() as port:
        yield port
