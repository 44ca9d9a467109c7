"""What becomes of fibers when their process ends, or forks. Each case is a program of its own."""

import subprocess
import sys

import pytest

PRELUDE = "import os, sys, threading, time\nimport weft\n"


def run(body):
    # From 3.12 on a fork with other threads, the engine's, is warned of.
    done = subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + body],
                          capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


WAITS = {
    "fiber in a channel": "c = weft.Channel()\nweft.spawn(c.receive)\nweft.sleep(0.01)\n",
    "fiber in join": "f = weft.spawn(weft.sleep, 100)\nweft.spawn(f.join)\nweft.sleep(0.01)\n",
    "fiber in to_thread": "weft.spawn(weft.to_thread, time.sleep, 0.3)\nweft.sleep(0.01)\n",
    "fiber that has not begun": "weft.spawn(weft.sleep, 100)\n",
    "fiber that computes": "def work():\n    while True: pass\nweft.patch()\nweft.spawn(work)\nweft.sleep(0.01)\n",
    "thread in a channel": "c = weft.Channel()\nweft.start()\n"
                           "t = threading.Thread(target=c.receive, daemon=True)\nt.start()\ntime.sleep(0.05)\n",
    "thread in join": "f = weft.spawn(weft.sleep, 100)\n"
                      "t = threading.Thread(target=f.join, daemon=True)\nt.start()\ntime.sleep(0.05)\n",
    "patched thread in a channel": "weft.patch()\nc = weft.Channel()\n"
                                   "t = threading.Thread(target=c.receive, daemon=True)\nt.start()\nweft.sleep(0.01)\n",
    "suspended map": "m = weft.map(weft.sleep, [0, 100, 100])\nnext(m)\n",
}


@pytest.mark.parametrize("kind", WAITS)
def test_the_process_ends_though_something_waits(kind):
    assert run(WAITS[kind] + "print('end')\n") == "end\n"


def test_a_suspended_generator_with_a_group_does_not_hold_the_process():
    assert run("""
def work():
    with weft.TaskGroup() as group:
        group.spawn(weft.sleep, 100)
        yield
generator = work()
next(generator)
weft.sleep(0.01)
""") == ""


FORK = """
def child_of(body):
    pid = os.fork()
    if pid == 0:
        weft.timeout(10).__enter__()
        os._exit(body() or 0)
    print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_fibers_of_before_a_fork_are_done_in_the_child():
    assert run(FORK + """
fiber = weft.spawn(weft.sleep, 0.2)
weft.yield_now()
def body():
    assert fiber.done() and fiber.cancelled() and not fiber.cancel()
    weft.yield_now()
    fiber.join()
    try:
        fiber.result()
    except weft.Cancelled as error:
        assert "fork" in str(error)
        return weft.spawn(lambda: 7).result()
child_of(body)
fiber.result()
print("parent")
""") == "child 7\nparent\n"


def test_a_group_around_a_fork():
    assert run(FORK + """
with weft.TaskGroup() as group:
    group.spawn(weft.sleep, 0.2)
    weft.yield_now()
    pid = os.fork()
    if pid == 0:
        group.spawn(weft.sleep, 0)
if pid == 0:
    os._exit(3)
print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""") == "child 3\n"


def test_the_end_of_a_fiber_that_forked_is_the_end_of_the_child():
    for end in ("return", "sys.exit(4)"):
        assert run(f"""
def work():
    pid = os.fork()
    if pid == 0:
        {end}
    else:
        print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
weft.spawn(work).result()
""") == "child 0\n"
