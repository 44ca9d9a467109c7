#!/usr/bin/env python3
"""What does Python code cost whose allocations are watched, beside tracemalloc and memray?

As a multiple of the same code's time unwatched. Each side in processes of its own, by turns, in which the code runs
unwatched and watched by turns; medians of CPU time, of all threads. json: dumps() and loads() of 300 records.
containers: lists, tuples and dicts of 20,000 rows. text: split, replace, format and join of as many words. Each with
Python's own allocator, which keeps objects of up to 512 bytes from malloc(), and with PYTHONMALLOC=malloc.
sampling: weft.heap.Profile() with its defaults: native and Python stacks of a sample. counting: as weft.leaks counts
in its runs, exactly, without stacks. tracemalloc: with its defaults, one frame of each of Python's allocations.
memray: with its defaults, the Python stack of each allocation, written to a file; 1.20.0, installed into build/bench/.
"""

import argparse
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

from support.peers import peer_python

MEMRAY = "memray==1.20.0"
SIDES = ("sampling", "counting", "tracemalloc", "memray")
ALLOCATORS = ("pymalloc", "malloc")
WORDS = "a line of text with words of several lengths, some of them considerably longer than others".split()


def work_json(size):
    records = [{"name": f"record {i}", "values": [i * 0.5] * 20, "inner": {str(j): [j, None, True] for j in range(10)}}
               for i in range(size * 15 // 1000)]
    for _ in range(10):
        json.loads(json.dumps(records))


def work_containers(size):
    rows = [{"number": i, "pair": (i, i + 0.5), "list": [i] * (i % 30), "key": str(i)} for i in range(size)]
    index = {row["key"]: row for row in rows}
    sorted(([row["pair"], *row["list"]] for row in index.values()), key=len)


def work_text(size):
    text = " ".join(WORDS[i % len(WORDS)] for i in range(size))
    for _ in range(3):
        pieces = [f"{word}: {len(word):>10}" for word in text.split(" ")]
        lines = "\n".join(pieces).replace("of", "from").splitlines()
        "".join(line.upper() * 20 for line in lines)


WORKS = {"json": work_json, "containers": work_containers, "text": work_text}


@contextlib.contextmanager
def counting():
    """What a leak test does during its runs."""
    from weft import _weft

    trial = _weft._LeakTrial(200, 10, 10.0, 1 << 30, [])
    try:
        yield
    finally:
        trial.close()


@contextlib.contextmanager
def traced():
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def watcher(side, folder):
    """Makes the context in which code is watched."""
    if side == "sampling":
        from weft.heap import Profile

        return Profile
    if side == "memray":
        import memray

        return lambda: memray.Tracker(destination=memray.FileDestination(folder / "allocations", overwrite=True))
    return {"counting": counting, "tracemalloc": traced}[side]


def measure(side, turns, size):
    """{work: (unwatched, watched)}, in seconds"""

    def seconds(work, context):
        gc.collect()
        with context:
            began = time.process_time()
            work(size)
            return time.process_time() - began

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        watch = watcher(side, Path(folder))
        for name, work in WORKS.items():
            work(size)
            pairs = [(seconds(work, contextlib.nullcontext()), seconds(work, watch())) for _ in range(turns)]
            found[name] = [statistics.median(times) for times in zip(*pairs)]
    return found


def run(side, allocator, options):
    """The same from a process of its own."""
    environment = os.environ | {"PYTHONMALLOC": allocator}
    python = peer_python(MEMRAY) if side == "memray" else sys.executable
    done = subprocess.run(
        [python, __file__, "--side", side, "--turns", str(options.turns), "--size", str(options.size)],
        stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="processes of each side, by turns (default: 5)")
    parser.add_argument("--turns", type=int, default=7, help="unwatched and watched, in each process (default: 7)")
    parser.add_argument("--size", type=int, default=20_000, help="rows and words (default: 20,000)")
    parser.add_argument("--quick", action="store_true", help="one short run of each: does it work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the medians there, too")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if min(options.runs, options.turns, options.size) < 1:
        parser.error("--runs, --turns and --size must be positive")
    if options.quick:
        options.runs, options.turns, options.size = 1, 1, 500
    if options.side:
        print(json.dumps(measure(options.side, options.turns, options.size)))
        return 0

    found = {(allocator, work): {side: [] for side in SIDES} for allocator in ALLOCATORS for work in WORKS}
    for number in range(options.runs):
        for allocator in ALLOCATORS:
            for side in SIDES:
                print(f"run {number + 1} of {options.runs}: {side}, {allocator}", file=sys.stderr)
                try:
                    figures = run(side, allocator, options)
                except subprocess.CalledProcessError as error:
                    print(f"heap_profile: {side} gives no figures: {error}", file=sys.stderr)
                    return 1
                for work, times in figures.items():
                    found[allocator, work][side].append(times)
    medians = {allocator: {} for allocator in ALLOCATORS}
    print(f"{'':22}{'ms':>10}" + "".join(f"{side:>13}" for side in SIDES))
    for (allocator, work), sides in found.items():
        plain = statistics.median(before for pairs in sides.values() for before, _ in pairs)
        ratios = {side: statistics.median(after / before for before, after in pairs) for side, pairs in sides.items()}
        medians[allocator][work] = {"seconds": plain, **ratios}
        print(f"{allocator + ', ' + work:22}{plain * 1e3:10.1f}" + "".join(f"{ratios[side]:12.2f}x" for side in SIDES))
    if options.json:
        options.json.write_text(json.dumps(medians, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
