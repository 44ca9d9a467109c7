#!/usr/bin/env python3
"""What do 100,000 threads cost that sleep at once?

`_thread.start_new_thread` alone, without the objects of `threading`. Plain, only as many are started as an OS bears
without complaint: figures are for each thread.
"""

import _thread
import sys
import time

from support.side_by_side import main, memory_kib

LONG = 3600
MOST_OS_THREADS = 10_000


def is_plain():
    """Is each thread an OS thread?"""
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        return "libweft-preload" not in maps.read()


def mappings():
    with open("/proc/self/maps", "rb") as maps:
        return sum(1 for _ in maps)


def measure(threads):
    if is_plain():
        threads = min(threads, MOST_OS_THREADS)
    asleep = []

    def sleep():
        asleep.append(None)
        time.sleep(LONG)

    before, started = memory_kib(), time.monotonic()
    for _ in range(threads):
        _thread.start_new_thread(sleep, ())
    seconds_to_start = time.monotonic() - started
    while len(asleep) < threads:
        time.sleep(0.001)
    seconds = time.monotonic() - started
    return {"started": threads, "us each to start": seconds_to_start / threads * 1e6,
            "us each until it sleeps": seconds / threads * 1e6, "KiB each": (memory_kib() - before) / threads,
            "memory mappings in all": mappings()}


if __name__ == "__main__":
    sys.exit(main(__doc__, measure, cases=[{"threads": 100_000}], quick=[{"threads": 200}]))
