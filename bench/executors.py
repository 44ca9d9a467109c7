#!/usr/bin/env python3
"""How soon is a service known to be ready, and what does waiting cost, beside mirakuru?

Each side in processes of its own, by turns; medians. tcp, http: milliseconds from the moment at which a server listens to
the return of start(), of a server that does so as soon as it can; slow: of one that takes 0.2 to 0.5 seconds more. start: milliseconds to start and stop a command. many: seconds until all of --many services, which
are started at once, are ready and stopped again. cpu: milliseconds of the processor that waiting --wait seconds in vain
takes. weft: weft.process, fibers where there are many. mirakuru: its newest release, and a thread for each; installed
into build/bench/.
"""

import argparse
import importlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.peers import peer_python

MIRAKURU = ("mirakuru==3.0.0", "psutil")
SIDES = ("weft", "mirakuru")
OPERATIONS = ("tcp", "http", "slow", "start", "many", "cpu")

# Listens after a while, and notes when it did.
SERVER = """
import http.server, os, socket, sys, time
time.sleep(float(sys.argv[3]))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
now = time.monotonic()
with open(sys.argv[2] + ".new", "w") as file: file.write(str(now))
os.rename(sys.argv[2] + ".new", sys.argv[2])
server.serve_forever()
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def latency(make, count, folder, slow=False):
    """Milliseconds, the median of `count`."""
    found = []
    for number in range(count):
        port, note = free_port(), folder / "note"
        note.unlink(missing_ok=True)
        delay = 0.2 + 0.3 * (number * 0.618 % 1) if slow else 0
        with make([sys.executable, "-S", "-c", SERVER, str(port), str(note), str(delay)], port):
            ready = time.monotonic()
            while not note.exists():  # it listens before it notes that
                time.sleep(0.001)
            found.append((ready - float(note.read_text())) * 1e3)
    return statistics.median(found)


def measure(side, options):
    library = importlib.import_module("mirakuru" if side == "mirakuru" else "weft.process")
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures["tcp"] = latency(lambda command, port: library.TCPExecutor(command, "127.0.0.1", port, timeout=60),
                                 options.count, folder)
        figures["slow"] = latency(lambda command, port: library.TCPExecutor(command, "127.0.0.1", port, timeout=60),
                                  options.count, folder, slow=True)
        figures["http"] = latency(
            lambda command, port: library.HTTPExecutor(command, f"http://127.0.0.1:{port}/", timeout=60),
            options.count, folder)
        began = time.perf_counter()
        for _ in range(options.count):
            library.SimpleExecutor(["sleep", "100"]).start().stop()
        figures["start"] = (time.perf_counter() - began) / options.count * 1e3

        def one(number):
            path = folder / str(number)
            with library.PidExecutor(["sh", "-c", f"sleep 0.2; touch {path}; exec sleep 100"], str(path), timeout=300):
                pass

        began = time.perf_counter()
        if side == "weft":
            import weft

            list(weft.map(one, range(options.many), concurrency=options.many))
        else:
            with ThreadPoolExecutor(options.many) as pool:
                list(pool.map(one, range(options.many)))
        figures["many"] = time.perf_counter() - began
    executor = library.TCPExecutor(["sleep", "1000"], "127.0.0.1", free_port(), timeout=options.wait)
    before = time.process_time()
    try:
        executor.start()
    except library.TimeoutExpired:
        figures["cpu"] = (time.process_time() - before) * 1e3
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="of each side, by turns (default: 3)")
    parser.add_argument("--count", type=int, default=15, help="services for tcp, http and start (default: 15)")
    parser.add_argument("--many", type=int, default=200, help="services that are started at once (default: 200)")
    parser.add_argument("--wait", type=float, default=10, help="seconds to wait in vain (default: 10)")
    parser.add_argument("--quick", action="store_true", help="one short run of each: does it work?")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.runs, options.count, options.many, options.wait = 1, 2, 5, 0.5
    if options.side:
        print(json.dumps(measure(options.side, options)))
        return 0
    runs = {side: [] for side in SIDES}
    for run in range(options.runs):
        for side in SIDES:
            print(f"run {run + 1} of {options.runs}: {side}", file=sys.stderr)
            python = peer_python(*MIRAKURU) if side == "mirakuru" else sys.executable
            done = subprocess.run(
                [python, __file__, "--side", side, "--count", str(options.count), "--many", str(options.many),
                 "--wait", str(options.wait)], stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode != 0:
                print(f"executors: {side} gives no figures", file=sys.stderr)
                return 1
            runs[side].append(json.loads(done.stdout))
    print(f"{'':10}{'weft':>10}{'mirakuru':>10}{'ratio':>8}")
    for operation in OPERATIONS:
        ours, theirs = (statistics.median(run[operation] for run in runs[side]) for side in SIDES)
        print(f"{operation:10}{ours:10.2f}{theirs:10.2f}{theirs / ours:7.1f}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
