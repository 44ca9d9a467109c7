"""A pytest plugin: `pykka` is weft.actor, and the real one cannot be imported."""

import importlib.util

if importlib.util.find_spec("pykka") is not None:
    raise RuntimeError("pykka can be imported here: its tests would prove nothing. Uninstall it")

import weft.actor

weft.actor.install_as_pykka()

from count_threads import pytest_sessionfinish  # noqa: E402, F401
