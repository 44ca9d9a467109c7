#!/usr/bin/env python3
"""Do threads that compute without a pause get equal shares, and does a sleeper wake in time beside them?

Two threads count, the main thread sleeps.
"""

import sys
import threading
import time

from support.side_by_side import main


def measure(counters, seconds=1):
    counts, stop = [0] * counters, False

    def count(number):
        while not stop:
            counts[number] += 1

    threads = [threading.Thread(target=count, args=(number,)) for number in range(counters)]
    for thread in threads:
        thread.start()
    before, started = list(counts), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - started
    counted = [after - former for after, former in zip(counts, before)]
    stop = True
    for thread in threads:
        thread.join()
    return {"million counts/s": sum(counted) / took / 1e6,
            "least share of a fair one, %": min(counted) / sum(counted) * counters * 100,
            "main wakes late, ms": (took - seconds) * 1000}


if __name__ == "__main__":
    sys.exit(main(__doc__, measure, cases=[{"counters": 2}, {"counters": 10}],
                  quick=[{"counters": 2, "seconds": 0.2}], peers=()))  # greenlets that compute are never preempted
