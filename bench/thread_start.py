#!/usr/bin/env python3
"""What does a `threading.Thread` cost that is started, and then sleeps?

Time of Thread() and start(), and memory with page tables, while all of them sleep.
"""

import sys
import threading
import time

from support.side_by_side import main, memory_kib

LONG = 3600


def measure(threads):
    asleep = []

    def sleep():
        asleep.append(None)
        time.sleep(LONG)

    before, started = memory_kib(), time.monotonic()
    for _ in range(threads):
        threading.Thread(target=sleep, daemon=True).start()
    seconds = time.monotonic() - started
    while len(asleep) < threads:
        time.sleep(0.001)
    return {"us each": seconds / threads * 1e6, "KiB each": (memory_kib() - before) / threads}


if __name__ == "__main__":
    sys.exit(main(__doc__, measure, cases=[{"threads": 10_000}], quick=[{"threads": 100}]))
