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


FORKS = """
#include <time.h>
#include <unistd.h>
int work_and_fork(void) {
  struct timespec begin, now;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  do clock_gettime(CLOCK_MONOTONIC, &now);
  while ((now.tv_sec - begin.tv_sec) * 1000000000L + now.tv_nsec - begin.tv_nsec < 30000000L);
  return fork();
}
"""
FORK_ON = """
import ctypes, os, sys, threading, time
library = ctypes.CDLL(sys.argv[1])
over = False
def fork_on():
    global over
    for _ in range(10):
        child = library.work_and_fork()
        if child == 0: os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    over = True
thread = threading.Thread(target=fork_on)
thread.start()
while not over: time.sleep(0.001)
thread.join()
print("done")
"""


def test_c_code_may_fork_without_the_gil(weft, python, compile_c):
    library = compile_c("library.so", FORKS, "-shared", "-fPIC")
    done = weft("run", python, "-c", FORK_ON, library)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


CHILD = """
import os, threading, time, warnings
warnings.simplefilter("ignore")
over = False
def compute():
    while not over: pass
def beside_one_that_computes():
    global over
    over = False
    thread = threading.Thread(target=compute)
    thread.start()
    for _ in range(5): time.sleep(0.01)
    over = True
    thread.join()
beside_one_that_computes()
child = os.fork()
beside_one_that_computes()
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    print("done")
"""


def test_threads_of_a_fork_child_give_way_too(weft, python):
    done = weft("run", python, "-c", CHILD)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
