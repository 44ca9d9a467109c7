#!/usr/bin/env python3
"""Asks several backends the same thing at the same time, and takes what came by a deadline.

Shows a TaskGroup whose fibers answer through a channel; what is late is cancelled, and holds up nothing.

    python fan_out.py                           # starts five backends itself, two of which are too slow
    python fan_out.py --deadline 0.5 http://one/price http://two/price
"""

import argparse
import contextlib
import sys
import urllib.request

import demo_server
import weft


def ask(url, answers):
    try:
        with urllib.request.urlopen(url) as answer:
            answers.send((url, answer.read().decode(errors="replace").strip()))
    except OSError as error:
        answers.send((url, f"failed: {error}"))


def fan_out(urls, deadline):
    answers, taken = weft.Channel(None), []
    with weft.TaskGroup() as group:
        for url in urls:
            group.spawn(ask, url, answers)
        with contextlib.suppress(weft.Timeout), weft.timeout(deadline):
            while len(taken) < len(urls):
                taken.append(answers.receive())
        group.cancel()
    return taken


def main():
    parser = argparse.ArgumentParser(description="Ask several backends at once, and take what came by a deadline.")
    parser.add_argument("urls", nargs="*", metavar="URL", help="(default: five backends of its own)")
    parser.add_argument("--deadline", type=float, default=1, metavar="SECONDS", help="(default: 1)")
    options = parser.parse_args()
    weft.patch()
    if not options.urls:
        base = demo_server.serve(lambda path: (float(path[1:]), 200, f"took {path[1:]} s"))
        options.urls = [f"{base}/{seconds}" for seconds in (0.1, 20, 0.3, 30, 0.2)]
    taken = fan_out(options.urls, options.deadline)
    for url, answer in taken:
        print(f"{url}: {answer}")
    print(f"{len(taken)} of {len(options.urls)} answers")
    return not taken


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
