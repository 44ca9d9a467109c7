"""Services for the tests of `weft exec`, and what is left of them."""

import itertools
import os
import socket
import sys
from pathlib import Path

import pytest

SERVER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
while True:
    listener.accept()[0].close()
"""

_marks = itertools.count()


def python(script, *arguments, with_site=False):
    return [sys.executable, *([] if with_site else ["-S"]), "-c", script, *map(str, arguments)]


def server(port):
    return python(SERVER, port)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch):
    """Of a test's processes none is there when weft exec has ended."""
    mark = {"EXEC_TEST": f"{os.getpid()}-{next(_marks)}"}
    monkeypatch.setenv(*next(iter(mark.items())))
    yield
    assert not alive(mark)


def marked():
    """Variables by which alive() knows what was started with them."""
    return {"EXEC_TEST_MARK": f"{os.getpid()}-{next(_marks)}"}


def alive(mark):
    """The processes that have the variable of marked(), but for zombies."""
    wanted = "".join(f"{name}={value}" for name, value in mark.items()).encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            pass
    return found
