"""The messages that proxies send. To send one by hand saves making a proxy."""

from __future__ import annotations

from typing import Any, NamedTuple


class _ActorStop(NamedTuple):
    """Asks an actor to stop."""


class ProxyCall(NamedTuple):
    """Asks for a call of the method at `attr_path` with `args` and `kwargs`."""

    attr_path: tuple[str, ...]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class ProxyGetAttr(NamedTuple):
    """Asks for the attribute at `attr_path`."""

    attr_path: tuple[str, ...]


class ProxySetAttr(NamedTuple):
    """Asks for the attribute at `attr_path` to be set to `value`."""

    attr_path: tuple[str, ...]
    value: Any
