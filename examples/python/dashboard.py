#!/usr/bin/env python3
"""A live table of what the endpoints of an HTTP API say, asked all at once, again and again.

Shows weft.map() and a deadline for each call: an endpoint that hangs costs its own row, not the table.

    python dashboard.py                                      # asks a slow API of its own; Ctrl-C ends it
    python dashboard.py --interval 5 --timeout 2 http://one/health http://two/health
"""

import argparse
import itertools
import random
import sys
import time
import urllib.request

import demo_server
import weft


def poll(url, timeout):
    started = time.monotonic()
    try:
        with weft.timeout(timeout), urllib.request.urlopen(url) as answer:
            status = answer.read(40).decode(errors="replace")
    except weft.Timeout:
        status = "no answer in time"
    except OSError as error:
        status = str(error)
    return status, round(1000 * (time.monotonic() - started))


def demo_endpoint(path):
    return 60 if path == "/search" else random.uniform(0.01, 0.3), 503 if path == "/mail" else 200, "fine"


def main():
    parser = argparse.ArgumentParser(description="A live table of what the endpoints of an HTTP API say.")
    parser.add_argument("urls", nargs="*", metavar="URL", help="(default: an API of its own)")
    parser.add_argument("--interval", type=float, default=1, metavar="SECONDS", help="between rounds (default: 1)")
    parser.add_argument("--timeout", type=float, default=0.5, metavar="SECONDS", help="for each call (default: 0.5)")
    parser.add_argument("--rounds", type=int, metavar="N", help="(default: until Ctrl-C)")
    options = parser.parse_args()
    weft.patch()
    base = "" if options.urls else demo_server.serve(demo_endpoint)
    urls = options.urls or [f"{base}/{name}" for name in ("orders", "search", "mail", "billing")]
    for number in itertools.islice(itertools.count(1), options.rounds):
        results = list(weft.map(lambda url: poll(url, options.timeout), urls, concurrency=len(urls)))
        print("\x1b[H\x1b[J" * sys.stdout.isatty() + f"round {number}, {time.strftime('%X')}")
        for url, (status, milliseconds) in zip(urls, results):
            print(f"  {url:40} {milliseconds:5} ms  {status}", flush=True)
        weft.sleep(0 if number == options.rounds else options.interval)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
