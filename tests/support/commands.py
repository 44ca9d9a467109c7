"""For tests that start commands: what runs, and that nothing is left."""

import os
import sys

import pytest

from weft.process import reserve_port

SERVER = """
import http.server, os, socket, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        code = int(self.path.strip("/") or 200)
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_GET = do_HEAD = do_POST = answer
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def python(text, *arguments):
    return [sys.executable, "-S", "-c", text, *map(str, arguments)]


def processes():
    """{number: (parent, state)} of all that there are."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            found[int(entry)] = int(parent), state
    return found


def family_of(pid, *, dead=False):
    """Numbers of the processes that descend from it; those that have ended and were not waited for only if asked for."""
    all_of_them = processes()
    family, more = set(), {pid}
    while more:
        family |= more
        more = {child for child, (parent, state) in all_of_them.items()
                if parent in more and (dead or state not in "ZX")} - family
    return family - {pid}


@pytest.fixture(autouse=True)
def no_process_is_left(until):
    before = family_of(os.getpid(), dead=True)  # servers for other tests
    yield
    until(lambda: family_of(os.getpid(), dead=True) <= before, 5)


@pytest.fixture
def port():
    with reserve_port() as reserved:
        yield int(reserved)
