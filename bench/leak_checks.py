#!/usr/bin/env python3
"""How long does a leak test take until its verdict, beside psleak's, and how often is it wrong?

The functions are those of `make leak-rates`, made from seeds, as many of each kind. Each verdict is made in a process
of its own; both libraries judge the same function one after the other, by turns the one and the other first. Timed is
the test, not the start of its process: memory alone, with defaults, and without weft's search for the code that leaks.
A verdict that is soon there and wrong is worth nothing, so the wrong ones stand beside the medians, which are of all.
One that takes longer than --time-limit is ended, and wrong. psleak: 0.1.5, installed into build/bench/.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from support.leak_verdicts import PSLEAK, SORTS, Worker
from support.peers import peer_python

import leak_corpus  # beside the verdicts

FIRST_SEED = 2_000_000


def chosen(count, first):
    """[(sort, seed)]: from `first` on, the first `count` of each kind, the kinds by turns."""
    rounds = {}
    kinds = {"clean": len(leak_corpus.CLEAN), "leaking": len(leak_corpus.EVERY)}
    for sort in SORTS:
        # Without the module that leaks: they are looked at here, not called.
        make = leak_corpus.clean if sort == "clean" else lambda seed: leak_corpus.leaking(seed, None)
        seen = {}
        for seed in itertools.count(first):
            kind, _ = make(seed)
            seen[kind] = seen.get(kind, 0) + 1
            if seen[kind] <= count:
                rounds.setdefault(seen[kind], []).append((sort, seed))
            if len(seen) == kinds[sort] and min(seen.values()) >= count:
                break
    return [one for each in rounds.values() for one in each]


def figures(verdicts):
    times = [one.seconds for one in verdicts]
    return {"verdicts": len(verdicts), "wrong": sum(one.wrong for one in verdicts),
            "late": sum(one.leaks is None for one in verdicts),
            "median": statistics.median(times), "longest": max(times)}


def summary(workers):
    """{sort: {kind, or "all": {library: its figures}}}"""
    found = {}
    for sort in SORTS:
        kinds = sorted({one.kind for one in workers[0].verdicts if one.sort == sort})
        found[sort] = {kind: {worker.name: figures([one for one in worker.verdicts
                                                    if one.sort == sort and kind in ("all", one.kind)])
                              for worker in workers} for kind in [*kinds, "all"]}
    return found


def show(found):
    print(f"{'ms':22}{'verdicts':>9}{'weft':>9}{'psleak':>9}{'weft/psleak':>13}{'longest':>9}{'psleak':>9}"
          f"{'wrong':>8}{'psleak':>8}")
    for sort, kinds in found.items():
        for kind, sides in kinds.items():
            ours, theirs = sides["weft"], sides["psleak"]
            print(f"{sort + ', ' + kind:22}{ours['verdicts']:9}{ours['median'] * 1e3:9.1f}{theirs['median'] * 1e3:9.1f}"
                  f"{ours['median'] / theirs['median']:13.2f}{ours['longest'] * 1e3:9.0f}{theirs['longest'] * 1e3:9.0f}"
                  f"{ours['wrong']:8}{theirs['wrong']:8}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="functions of each kind (default: 20)")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help=f"the first (default: {FIRST_SEED:,})")
    parser.add_argument("--time-limit", type=float, default=60, metavar="SECONDS", help="for a verdict (default: 60)")
    parser.add_argument("--quick", action="store_true", help="one function of each kind: does it work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too, in seconds")
    options = parser.parse_args()
    if options.count < 1 or options.time_limit <= 0:
        parser.error("--count and --time-limit must be positive")
    if options.quick:
        options.count = 1
    try:
        peer = peer_python(*PSLEAK)
    except subprocess.CalledProcessError as error:
        print(f"leak_checks: {PSLEAK[0]} cannot be had, so there is nothing to compare with: {error}", file=sys.stderr)
        return 1
    functions = chosen(options.count, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        workers = [Worker("weft", sys.executable, folder), Worker("psleak", peer, folder)]
        for number, (sort, seed) in enumerate(functions):
            if sys.stderr.isatty():
                print(f"\r{number + 1} of {len(functions)}\x1b[K", end="", file=sys.stderr, flush=True)
            for worker in workers[::-1] if number % 2 else workers:
                worker.ask(sort, seed, options.time_limit)
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)
        for worker in workers:
            worker.close()
    found = summary(workers)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
