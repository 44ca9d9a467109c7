#!/usr/bin/env python3
"""What does asking for the heap's figures cost, beside psutil?

Both sides in one process, by turns; medians of nanoseconds a call. empty: of a process that has done nothing yet. holes:
with --holes free blocks between others, all of which glibc goes through at each call. grown: two calls, after the heap has
grown and after it has shrunk; that itself is in it, on all sides. thread: the same in the arena of another thread, where
weft counts the arenas anew. weft: weft.heap.info(), which has a figure more than psutil's; call: weft.heap.heap_info(),
which has the same. psutil: its heap_info(), of the newest release; installed into build/bench/.
"""

import argparse
import ctypes
import statistics
import subprocess
import sys
import threading
import time

from support.peers import add_peer

PSUTIL = "psutil==7.2.2"
OPERATIONS = ("empty", "holes", "grown", "thread")

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]


def load_psutil():
    """The peer from its own environment."""
    add_peer(PSUTIL)
    import psutil

    return psutil


def nanoseconds(function, count):
    began = time.perf_counter_ns()
    for _ in range(count):
        function()
    return (time.perf_counter_ns() - began) / count


def after_growing(ask):
    """By blocks below the size from which they have a mapping, and beyond what the end of the heap has in stock."""

    def asked():
        blocks = [libc.malloc(120_000) for _ in range(4)]
        ask()
        for block in blocks:
            libc.free(block)
        ask()

    return asked


def measure(sides, runs, count):
    """The medians, in the order of `sides`."""
    found = [[] for _ in sides]
    for _ in range(runs):
        for side, figures in zip(sides, found):
            figures.append(nanoseconds(side, count))
    return [statistics.median(figures) for figures in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=25, help="of each side, by turns (default: 25)")
    parser.add_argument("--count", type=int, default=20_000, help="calls in a run (default: 20,000)")
    parser.add_argument("--holes", type=int, default=1000, help="free blocks between others (default: 1,000)")
    parser.add_argument("--quick", action="store_true", help="one short run of each: does it work?")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.count, options.holes = 1, 100, 10
    try:
        psutil = load_psutil()
    except (subprocess.CalledProcessError, ImportError) as error:
        print(f"heap_info: {PSUTIL} cannot be had, so there is nothing to compare with: {error}", file=sys.stderr)
        return 1
    from weft import heap

    sides = heap.info, heap.heap_info, psutil.heap_info
    medians = {"empty": measure(sides, options.runs, options.count)}
    blocks = [libc.malloc(2000) for _ in range(2 * options.holes)]
    for block in blocks[::2]:
        libc.free(block)
    few = max(1, options.count // 20)
    medians["holes"] = measure(sides, options.runs, few)
    growing = [after_growing(each) for each in sides]
    medians["grown"] = measure(growing, options.runs, few)
    thread = threading.Thread(target=lambda: medians.update(thread=measure(growing, options.runs, few)))
    thread.start()
    thread.join()
    print(f"{'':10}{'weft':>10}{'call':>10}{'psutil':>10}{'ratio':>8}")
    for operation in OPERATIONS:
        ours, same, theirs = medians[operation]
        print(f"{operation:10}{ours:10.0f}{same:10.0f}{theirs:10.0f}{theirs / ours:7.1f}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
