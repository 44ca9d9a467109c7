#!/usr/bin/env python3
"""Finds the open TCP ports of a host, hundreds at a time.

Shows weft.map(), which bounds how many run at once, and weft.timeout(), a deadline for blocking code.

    python port_scanner.py                                          # ports 1 to 1024 of this machine
    python port_scanner.py HOST --ports 20-9000 --concurrency 500 --timeout 0.5
"""

import argparse
import socket
import sys

import weft


def probe(family, address, timeout):
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        try:
            with weft.timeout(timeout):
                connection.connect(address)
        except weft.Timeout:
            return "silent"
        except ConnectionRefusedError:
            return "closed"
        return "open"


def port_range(text):
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main():
    parser = argparse.ArgumentParser(description="Find the open TCP ports of a host.")
    parser.add_argument("host", nargs="?", default="127.0.0.1")
    parser.add_argument("--ports", type=port_range, default=range(1, 1025), metavar="FIRST-LAST")
    parser.add_argument("--concurrency", type=int, default=200, metavar="N", help="ports at a time (default: 200)")
    parser.add_argument("--timeout", type=float, default=1, metavar="SECONDS", help="for each port (default: 1)")
    options = parser.parse_args()
    weft.patch()
    family, _, _, _, (ip, *_) = socket.getaddrinfo(options.host, None, type=socket.SOCK_STREAM)[0]
    answers = weft.map(lambda port: probe(family, (ip, port), options.timeout), options.ports,
                       concurrency=options.concurrency)
    counts = {"open": 0, "closed": 0, "silent": 0}
    for port, answer in zip(options.ports, answers):
        counts[answer] += 1
        if answer == "open":
            print(f"{port} open", flush=True)
    print(", ".join(f"{count} {answer}" for answer, count in counts.items()))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, OverflowError) as error:
        sys.exit(f"port_scanner: {error}")
