#!/usr/bin/env python3
"""What do actors cost, beside Pykka's and asyncio's tasks with queues?

Each side in processes of its own, by turns; medians. Microseconds each: tell, ask (there and back), call of a method
through a proxy, nested (a method of a traversable attribute), fan_out (tell 1,000 actors, and wait for all), ring (a
message from one actor to the next), start (start and stop). memory: KiB for each actor of the ring.
fiber: weft.actor.Actor. thread: weft.actor.ThreadingActor, unpatched. pykka: its newest release, installed into
build/bench/. asyncio: a task with a queue for each actor, a future for each answer.
"""

import argparse
import asyncio
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from support.peers import peer_python

PYKKA = "pykka==4.4.2"
SIDES = ("fiber", "thread", "pykka", "asyncio")
OPERATIONS = ("tell", "ask", "call", "nested", "fan_out", "ring", "start", "memory")


def resident_kib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def clock(count, function):
    function(max(count // 10, 1))
    began = time.perf_counter()
    function(count)
    return (time.perf_counter() - began) / count * 1e6


def measure_actors(side, count, ring):
    library = importlib.import_module("pykka" if side == "pykka" else "weft.actor")
    base = library.Actor if side == "fiber" else library.ThreadingActor

    class Part:
        def method(self):
            return 1

    class Echo(base):
        part = library.traversable(Part())

        def on_receive(self, message):
            return message

        def method(self):
            return 1

    class Link(base):
        following = None

        def on_receive(self, hops):
            if hops == 0:
                ended.set(None)
            elif isinstance(hops, int):
                self.following.tell(hops - 1)
            else:
                self.following = hops

    echo = Echo.start()
    proxy = echo.proxy()

    def tell(times):
        for _ in range(times):
            echo.tell(1)
        echo.ask(1)

    def ask(times):
        for _ in range(times):
            echo.ask(1)

    def call(times):
        for _ in range(times):
            proxy.method().get()

    def nested(times):
        for _ in range(times):
            proxy.part.method().get()

    def start(times):
        refs = [Echo.start() for _ in range(times)]
        for ref in refs:
            ref.stop(block=False)
        for ref in refs:
            ref.actor_stopped.wait()

    figures = {operation.__name__: clock(count, operation) for operation in (tell, ask, call, nested)}
    figures["start"] = clock(min(count // 10, 500), start)

    crowd = [Echo.start() for _ in range(1000)]

    def fan_out(times):
        for _ in range(max(times // 1000, 1)):
            for future in [ref.ask(1, block=False) for ref in crowd]:
                future.get()

    figures["fan_out"] = clock(max(count, 1000), fan_out)
    for ref in crowd:
        ref.stop()

    before = resident_kib()
    links = [Link.start() for _ in range(ring)]
    for link, following in zip(links, links[1:] + links[:1]):
        link.tell(following)
    ended = library.ThreadingFuture()
    links[0].tell(ring)  # so that each has run
    ended.get()
    figures["memory"] = (resident_kib() - before) / ring
    ended = library.ThreadingFuture()
    began = time.perf_counter()
    links[0].tell(2 * ring)
    ended.get()
    figures["ring"] = (time.perf_counter() - began) / (2 * ring) * 1e6
    for link in links:
        link.stop(block=False)
    for link in links:
        link.actor_stopped.wait()
    echo.stop()
    return figures


async def measure_asyncio(count, ring):
    async def echo(queue):
        while (item := await queue.get()) is not None:
            message, future = item
            if future is not None:
                future.set_result(message)

    async def link(queue, following, ended):
        while (hops := await queue.get()) is not None:
            if hops == 0:
                ended.put_nowait(None)
            else:
                following.put_nowait(hops - 1)

    loop = asyncio.get_running_loop()

    def ask(queue):
        future = loop.create_future()
        queue.put_nowait((1, future))
        return future

    async def timed(times, function):
        await function(max(times // 10, 1))
        began = time.perf_counter()
        await function(times)
        return (time.perf_counter() - began) / times * 1e6

    queue = asyncio.Queue()
    task = asyncio.create_task(echo(queue))

    async def tells(times):
        for _ in range(times):
            queue.put_nowait((1, None))
        await ask(queue)

    async def asks(times):
        for _ in range(times):
            await ask(queue)

    async def starts(times):
        queues = [asyncio.Queue() for _ in range(times)]
        tasks = [asyncio.create_task(echo(one)) for one in queues]
        for one in queues:
            one.put_nowait(None)
        await asyncio.gather(*tasks)

    figures = {"tell": await timed(count, tells), "ask": await timed(count, asks)}
    figures["start"] = await timed(min(count // 10, 500), starts)
    crowd = [asyncio.Queue() for _ in range(1000)]
    tasks = [asyncio.create_task(echo(one)) for one in crowd]

    async def fan_out(times):
        for _ in range(max(times // 1000, 1)):
            await asyncio.gather(*[ask(one) for one in crowd])

    figures["fan_out"] = await timed(max(count, 1000), fan_out)
    before = resident_kib()
    queues = [asyncio.Queue() for _ in range(ring)]
    ended = asyncio.Queue()
    links = [asyncio.create_task(link(one, following, ended))
             for one, following in zip(queues, queues[1:] + queues[:1])]
    queues[0].put_nowait(ring)
    await ended.get()
    figures["memory"] = (resident_kib() - before) / ring
    began = time.perf_counter()
    queues[0].put_nowait(2 * ring)
    await ended.get()
    figures["ring"] = (time.perf_counter() - began) / (2 * ring) * 1e6
    for one in [*queues, *crowd, queue]:
        one.put_nowait(None)
    await asyncio.gather(task, *tasks, *links)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of each side, by turns (default: 5)")
    parser.add_argument("--ring", type=int, default=100_000,
                        help="actors in the ring; OS threads: at most 1,000 (default: 100,000)")
    parser.add_argument("--quick", action="store_true", help="one short run of each: does it work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the medians there, too")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=20_000, help="messages (default: 20,000)")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.ring, options.count = 1, 100, 1000
    if options.side == "asyncio":
        print(json.dumps(asyncio.run(measure_asyncio(options.count, options.ring))))
        return 0
    if options.side:
        print(json.dumps(measure_actors(options.side, options.count, options.ring)))
        return 0

    figures = {side: [] for side in SIDES}
    for run in range(options.runs):
        for side in SIDES:
            print(f"run {run + 1} of {options.runs}: {side}", file=sys.stderr)
            ring = options.ring if side in ("fiber", "asyncio") else min(options.ring, 1000)
            done = subprocess.run(
                [peer_python(PYKKA) if side == "pykka" else sys.executable, __file__, "--side", side,
                 "--count", str(options.count), "--ring", str(ring)],
                stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode != 0:
                print(f"actors: {side} gives no figures", file=sys.stderr)
                return 1
            figures[side].append(json.loads(done.stdout))
    medians = {
        operation: {side: statistics.median(run[operation] for run in runs)
                    for side, runs in figures.items() if operation in runs[0]}
        for operation in OPERATIONS
    }
    if options.json:
        options.json.write_text(json.dumps(medians, indent=2) + "\n")
    print(f"{'':10}" + "".join(f"{side:>10}" + ("" if side == "fiber" else f"{'ratio':>8}") for side in SIDES))
    for operation, values in medians.items():
        line = f"{operation:10}"
        for side in SIDES:
            value = values.get(side)
            line += f"{'-':>10}" if value is None else f"{value:10.2f}"
            if side != "fiber":
                line += f"{'-':>8}" if value is None else f"{value / values['fiber']:7.1f}x"
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
