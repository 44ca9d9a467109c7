"""Where no thread can be started, Weft says why and what to do: the program's own message has no reason."""

import resource
from pathlib import Path

import pytest

# Starts threads until that fails, twice; then lets them all end. Each has run before the next is started: it takes
# memory when it begins.
SCRIPT = """
import _thread, mmap, threading
gate = _thread.allocate_lock()
gate.acquire()
begun, ended = threading.Semaphore(0), threading.Semaphore(0)
started = 0
def wait():
    begun.release()
    with gate: ended.release()
def start():
    global started
    _thread.start_new_thread(wait, ())
    started += 1
    begun.acquire()
start()
failures = []
kept = []
{prepare}
while len(failures) < 2:
    try:
        start()
    except RuntimeError as error:
        failures.append(error)
kept.clear()
gate.release()
for _ in range(started): ended.acquire()
print(*failures)
"""
# A size that no stack has that was made before.
FILL_MAPPINGS = """
threading.stack_size(3 << 20)
try:
    while True: kept.append(mmap.mmap(-1, 4096))
except OSError: pass
"""


def limited(which, size):
    return lambda: resource.setrlimit(which, (size, size))


def reason(done):
    assert done.returncode == 0, done.stderr
    assert done.stdout == "can't start new thread can't start new thread\n"
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("weft: cannot start a thread besides the ")
    return done.stderr


@pytest.mark.parametrize("which, name", [(resource.RLIMIT_AS, "ulimit -v"), (resource.RLIMIT_DATA, "ulimit -d")])
def test_a_limit_of_the_process(weft, python, which, name):
    done = weft("run", "--stack-size=64M", python, "-c", SCRIPT.format(prepare=""),
                preexec_fn=limited(which, 1 << 30))
    text = reason(done)
    assert f" that {name} allows, {1 << 20} KiB, is used up: {name} unlimited, or a smaller --stack-size\n" in text


def test_the_limit_on_mappings(weft, python):
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    if limit > 300_000:
        pytest.skip("vm.max_map_count is too high to be reached within the time")
    text = reason(weft("run", python, "-c", SCRIPT.format(prepare=FILL_MAPPINGS)))
    assert text.endswith(f"vm.max_map_count allows, {limit}, are used up: sysctl -w vm.max_map_count=1048576\n")


def test_the_limit_on_huge_stacks(weft, python):
    text = reason(weft("run", "--stack-size=1G", python, "-c", SCRIPT.format(prepare="")))
    assert text.endswith("no room for more stacks of this size: use a smaller --stack-size\n")
