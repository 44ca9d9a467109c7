"""Helpers for proxies with types."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from weft.actor._actor import Actor
from weft.actor._names import Future

__all__ = ["ActorMemberMixin", "proxy_field", "proxy_method"]

T = TypeVar("T")
P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class Method(Protocol[P, R_co]):
    def __get__(self, instance: Any, owner: type | None = None) -> Callable[P, R_co]: ...

    def __call__(self, obj: Any, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


def proxy_field(field: T) -> Future[T]:
    """The type of a field as read through a proxy."""
    return field  # type: ignore[return-value]


def proxy_method(field: Callable[Concatenate[Any, P], T]) -> Method[P, Future[T]]:
    """The type of a method as called through a proxy."""
    return field  # type: ignore[return-value]


class ActorMemberMixin:
    """For a proxy's class: the types of the methods that every actor has."""

    stop: Method[[], Future[None]] = proxy_method(Actor.stop)
    on_start: Method[[], Future[None]] = proxy_method(Actor.on_start)
    on_stop: Method[[], Future[None]] = proxy_method(Actor.on_stop)
    on_failure: Method[
        [type[BaseException] | None, BaseException | None, TracebackType | None], Future[None]
    ] = proxy_method(Actor.on_failure)
    on_receive: Method[[Any], Future[Any]] = proxy_method(Actor.on_receive)
