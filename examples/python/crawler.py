#!/usr/bin/env python3
"""Fetches the pages of a site, breadth first, some at a time.

Shows weft.map() over urllib, which weft.patch() makes cooperative.

    python crawler.py                                        # serves a small site itself, and crawls that
    python crawler.py http://localhost:8000/ --concurrency 10 --pages 500
"""

import argparse
import re
import sys
import urllib.parse
import urllib.request

import demo_server
import weft


def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            text = page.read().decode(errors="replace")
    except OSError as error:
        return str(error), []
    return f"{len(text)} characters", [urllib.parse.urljoin(url, link) for link in re.findall(r'href="([^"#]+)', text)]


def demo_page(path):
    """Page N links to pages 2N+1 and 2N+2; 20 is the last."""
    number = int(path[1:] or 0)
    return 0.05, 200 if number <= 20 else 404, f'<a href="/{2 * number + 1}"> <a href="/{2 * number + 2}">'


def main():
    parser = argparse.ArgumentParser(description="Fetch the pages of a site, breadth first, some at a time.")
    parser.add_argument("url", nargs="?", help="where to begin (default: a site of its own)")
    parser.add_argument("--concurrency", type=int, default=10, metavar="N", help="pages at a time (default: 10)")
    parser.add_argument("--pages", type=int, default=200, metavar="N", help="fetch no more than so many (default: 200)")
    options = parser.parse_args()
    weft.patch()
    start = options.url or demo_server.serve(demo_page) + "/"
    site = urllib.parse.urljoin(start, "/")
    seen, level = [start], [start]
    while level:
        found = {}  # a set that keeps the order
        for url, (outcome, links) in zip(level, weft.map(fetch, level, concurrency=options.concurrency)):
            print(f"{url}: {outcome}", flush=True)
            found.update((link, None) for link in links if link.startswith(site) and link not in seen)
        level = list(found)[:max(options.pages - len(seen), 0)]
        seen += level
    print(f"{len(seen)} pages")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
