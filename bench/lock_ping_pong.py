#!/usr/bin/env python3
"""How long does it take two threads to hand a lock to each other and back?

Beside them, no thread or some that sleep.
"""

import sys
import threading
import time

from support.side_by_side import main


def measure(sleepers, round_trips=100_000):
    for _ in range(sleepers):
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    ping, pong = threading.Lock(), threading.Lock()
    ping.acquire()
    pong.acquire()

    def answer():
        for _ in range(round_trips):
            ping.acquire()
            pong.release()

    threading.Thread(target=answer, daemon=True).start()
    started = time.monotonic()
    for _ in range(round_trips):
        ping.release()
        pong.acquire()
    return {"us a round trip": (time.monotonic() - started) / round_trips * 1e6}


if __name__ == "__main__":
    sys.exit(main(__doc__, measure, cases=[{"sleepers": count} for count in (0, 1000)],
                  quick=[{"sleepers": 1, "round_trips": 100}]))
