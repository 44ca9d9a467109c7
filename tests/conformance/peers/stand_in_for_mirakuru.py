"""A pytest plugin: `mirakuru` is weft.process, and the real one cannot be imported."""

import importlib.util
import sys
from pathlib import Path

# In the processes that the tests start, too.
ours = Path(__file__).resolve().parent / "stand_ins"
if Path(importlib.util.find_spec("mirakuru").origin).parent != ours:
    raise RuntimeError("mirakuru can be imported here: its tests would prove nothing. Uninstall it")

import mirakuru

import weft

assert mirakuru.__weft__

from count_threads import pytest_sessionfinish as count  # noqa: E402


def pytest_sessionfinish():
    count()
    switches = weft.report()["switches"] if weft.running() else 0
    print(f"fibers were switched {switches} times", file=sys.stderr)
