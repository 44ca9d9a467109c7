#!/usr/bin/env python3
"""What do the operations of the Python package cost, beside gevent's and threads'?

In one process, by turns; microseconds for each operation, medians. spawn: start 2,000 and join them. pair: spawn and
join, one at a time. channel: an item there and one back. select: of 100 channels, one ready (a queue each and a
greenlet, or thread, for each queue are what the others have for it: not measured). timeout: enter and leave a scope.
map: 20,000 items by 100 workers.
"""

import argparse
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Thread

import gevent
import gevent.pool
import gevent.queue

import weft

COUNT, ITEMS, WORKERS = 2000, 20_000, 100


def weft_spawn():
    for fiber in [weft.spawn(int) for _ in range(COUNT)]:
        fiber.join()
    return COUNT


def gevent_spawn():
    gevent.joinall([gevent.spawn(int) for _ in range(COUNT)])
    return COUNT


def threads_spawn():
    threads = [Thread(target=int) for _ in range(COUNT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return COUNT


def weft_pair():
    for _ in range(COUNT):
        weft.spawn(int).join()
    return COUNT


def gevent_pair():
    for _ in range(COUNT):
        gevent.spawn(int).join()
    return COUNT


def threads_pair():
    for _ in range(COUNT):
        thread = Thread(target=int)
        thread.start()
        thread.join()
    return COUNT


def ping_pong(start, there, back, put, get):
    def answer():
        for _ in range(COUNT):
            put(back, get(there))

    answering = start(answer)
    for number in range(COUNT):
        put(there, number)
        get(back)
    answering.join()
    return COUNT


def weft_channel():
    return ping_pong(weft.spawn, weft.Channel(), weft.Channel(), weft.Channel.send, weft.Channel.receive)


def gevent_channel():
    channel = gevent.queue.Channel
    return ping_pong(gevent.spawn, channel(), channel(), channel.put, channel.get)


def threads_channel():
    def start(function):
        thread = Thread(target=function)
        thread.start()
        return thread

    return ping_pong(start, SimpleQueue(), SimpleQueue(), SimpleQueue.put, SimpleQueue.get)


def weft_select():
    channels = [weft.Channel(1) for _ in range(100)]
    for number in range(COUNT):
        channels[number % 100].send(number)
        weft.select(*channels)
    return COUNT


def weft_timeout():
    for _ in range(COUNT):
        with weft.timeout(10):
            pass
    return COUNT


def gevent_timeout():
    for _ in range(COUNT):
        with gevent.Timeout(10):
            pass
    return COUNT


def weft_map():
    for _ in weft.map(abs, range(ITEMS), concurrency=WORKERS):
        pass
    return ITEMS


def gevent_map():
    for _ in gevent.pool.Pool(WORKERS).imap(abs, range(ITEMS)):
        pass
    return ITEMS


def threads_map():
    with ThreadPoolExecutor(WORKERS) as pool:
        for _ in pool.map(abs, range(ITEMS)):
            pass
    return ITEMS


OPERATIONS = {
    "spawn": (weft_spawn, gevent_spawn, threads_spawn),
    "pair": (weft_pair, gevent_pair, threads_pair),
    "channel": (weft_channel, gevent_channel, threads_channel),
    "select": (weft_select, None, None),
    "timeout": (weft_timeout, gevent_timeout, None),
    "map": (weft_map, gevent_map, threads_map),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("operations", nargs="*", metavar="OPERATION", help=", ".join(OPERATIONS))
    parser.add_argument("--runs", type=int, default=7, help="of each, by turns (default: 7)")
    parser.add_argument("--quick", action="store_true", help="one run of each: does it work?")
    arguments = parser.parse_args()
    if unknown := set(arguments.operations) - set(OPERATIONS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; choose from {', '.join(OPERATIONS)}")
    print(f"{'us each':10}{'weft':>10}{'gevent':>10}{'ratio':>8}{'threads':>10}{'ratio':>8}")
    for name in arguments.operations or OPERATIONS:
        times = {function: [] for function in OPERATIONS[name] if function}
        for _ in range(1 if arguments.quick else arguments.runs):
            for function, taken in times.items():
                began = time.perf_counter()
                count = function()
                taken.append((time.perf_counter() - began) / count * 1e6)
        medians = [statistics.median(times[function]) if function else None for function in OPERATIONS[name]]
        line = f"{name:10}{medians[0]:10.2f}"
        for other in medians[1:]:
            line += f"{other:10.2f}{other / medians[0]:7.1f}x" if other else f"{'-':>10}{'-':>8}"
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
