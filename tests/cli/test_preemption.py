"""Threads that compute give way to others."""

import pytest

# The thread holds the GIL for a moment only, between calls that work without it.
HASHES = """
import hashlib, threading, time
data, over, hashed = bytes({size}), False, 0
def hash_on():
    global hashed
    while not over:
        hashlib.sha256(data).digest()
        hashed += 1
thread = threading.Thread(target=hash_on)
thread.start()
for _ in range(20): time.sleep(0.01)
over = True
thread.join()
print("done" if hashed else "nothing hashed")
"""


@pytest.mark.parametrize("size", [3_000, 2_000_000, 20_000_000])
def test_code_that_works_without_the_gil_gives_way_between_its_calls(weft, python, size):
    done = weft("run", python, "-c", HASHES.format(size=size))
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
