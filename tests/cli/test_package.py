"""The Python package in a process that `weft run` started: one engine, not two."""

import sys

PROGRAM = """
import threading, time, weft
assert weft.is_patched()
weft.start()
objects = {line.split()[-1] for line in open("/proc/self/maps") if "/libweft" in line}
assert len(objects) == 1, objects
threads = [threading.Thread(target=time.sleep, args=(0.05,)) for _ in range(5)]
for thread in threads:
    thread.start()
spawned = weft.spawn(lambda: (time.sleep(0.01), "spawned")[1])
assert weft.report()["fibers_alive"] == 6, weft.report()
print(spawned.result())
for thread in threads:
    thread.join()
try:
    with weft.timeout(0.01):
        time.sleep(1000)
except weft.Timeout:
    print("timeout")
"""


def test_the_package_uses_the_engine_that_is_there(weft):
    done = weft("run", sys.executable, "-c", PROGRAM)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "spawned\ntimeout\n"
