"""A pytest plugin: says how many threads were fibers."""

import collections
import os
import sys
import threading

counts = collections.Counter()
run = threading.Thread.run


def counting_run(self):
    counts["OS" if os.path.isdir(f"/proc/self/task/{threading.get_native_id()}") else "fiber"] += 1
    run(self)


threading.Thread.run = counting_run


def pytest_sessionfinish():
    print(f"\nthreads started: {counts['fiber']} fibers, {counts['OS']} OS threads", file=sys.stderr)
