"""A pytest plugin: `pykka` is weft.actor, and the real one cannot be imported."""

import collections
import importlib.util
import os
import sys
import threading

if importlib.util.find_spec("pykka") is not None:
    raise RuntimeError("pykka can be imported here: its tests would prove nothing. Uninstall it")

import weft.actor

weft.actor.install_as_pykka()

counts = collections.Counter()
run = threading.Thread.run


def counting_run(self):
    counts["OS" if os.path.isdir(f"/proc/self/task/{threading.get_native_id()}") else "fiber"] += 1
    run(self)


threading.Thread.run = counting_run


def pytest_sessionfinish():
    print(f"\nthreads started: {counts['fiber']} fibers, {counts['OS']} OS threads", file=sys.stderr)
