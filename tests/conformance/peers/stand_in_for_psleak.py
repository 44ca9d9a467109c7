"""A pytest plugin: `psleak` is weft.leaks, and neither the real one nor psutil can be imported."""

import importlib.util
from pathlib import Path

ours = Path(__file__).resolve().parent / "stand_ins"
for name in ("psleak", "psutil"):
    if Path(importlib.util.find_spec(name).origin).parent != ours:
        raise RuntimeError(f"{name} can be imported here: the tests would prove nothing. Uninstall it")

import psleak

import weft.leaks

assert psleak is weft.leaks

from count_threads import pytest_sessionfinish  # noqa: E402, F401
