"""weft dump, and dumps by signal."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from cli_support import wait_until

PARKED = """
import socket, threading, time
left, right = socket.socketpair()
lock = threading.Lock()
lock.acquire()
def reads(): left.recv(1)
def locks(): lock.acquire()
def sleeps(): time.sleep(1000)
for target in (reads, locks, sleeps):
    threading.Thread(target=target, daemon=True).start()
time.sleep(0.05)
print("up", flush=True)
"""
WAIT = PARKED + "threading.Event().wait()\n"
BUSY = PARKED + "def busy():\n    while True: pass\nbusy()\n"


def block_of(text, function):
    return next(block for block in text.split("\n\n") if f" in {function}\n" in block)


def test_every_fiber_is_explained(weft, start, python):
    process = start("run", python, "-c", WAIT)
    done = weft("dump", process.pid)
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert f"weft: process {process.pid}, Python 3." in text
    assert "4 fibers, 4 parked" in text
    reads = block_of(text, "reads")
    assert "waits in recv (io) for " in reads
    assert "descriptor " in reads and "socket:[" in reads
    assert "native:\n    " in reads
    assert "(lock) for " in block_of(text, "locks")
    assert "waits in clock_nanosleep (sleep)" in block_of(text, "sleeps")
    assert process.poll() is None


MANY = """
import socket, threading
pairs = [socket.socketpair() for _ in range(300)]
started = threading.Semaphore(0)
def reads(connection):
    started.release()
    connection.recv(1)
for left, _ in pairs:
    threading.Thread(target=reads, args=(left,), daemon=True).start()
for _ in pairs: started.acquire()
print("up", flush=True)
threading.Event().wait()
"""


def test_fibers_at_the_same_place_are_told_of_once(weft, start, python):
    process = start("run", python, "-c", MANY)
    wait_until(lambda: "301 parked" in weft("dump", process.pid).stdout)
    text = weft("dump", process.pid).stdout
    assert len(text.splitlines()) < 100
    reads = block_of(text, "reads")
    assert reads.startswith("300 fibers wait in recv (io) for ")
    assert ", on 300 descriptors, as descriptor " in reads and "socket:[" in reads
    assert " and 295 more\n" in reads
    assert text.count(" in reads\n") == 1


def test_all_tells_of_each_fiber(weft, start, python):
    process = start("run", python, "-c", MANY)
    wait_until(lambda: "301 parked" in weft("dump", process.pid).stdout)
    done = weft("dump", "--all", process.pid)
    assert done.returncode == 0
    assert done.stdout.count(" in reads\n") == 300
    assert len(re.findall(r"^fiber \d+ .*waits in recv", done.stdout, re.M)) == 300


def test_fibers_have_the_names_of_their_threads(weft, start, python):
    many = MANY.replace("daemon=True)", "daemon=True, name=f'reader {left.fileno()}')")
    process = start("run", python, "-c", many)
    wait_until(lambda: "301 parked" in weft("dump", process.pid).stdout)
    reads = block_of(weft("dump", process.pid).stdout, "reads")
    assert re.search(r'they are 2 "reader \d+", 3 "reader \d+", 4 "', reads), reads
    assert len(set(re.findall(r'"reader \d+"', weft("dump", "--all", process.pid).stdout))) == 300


HELD = """
import ctypes, threading, time
libc = ctypes.CDLL(None)
mutex = ctypes.create_string_buffer(64)
def holds():
    libc.pthread_mutex_lock(mutex)
    print("up", flush=True)
    time.sleep(1000)
threading.Thread(target=holds, daemon=True).start()
time.sleep(0.05)
libc.pthread_mutex_lock(mutex)
"""


def test_the_holder_of_a_mutex_is_named(weft, start, python):
    process = start("run", python, "-c", HELD)
    wait_until(lambda: "waits in pthread_mutex_lock" in weft("dump", process.pid).stdout)
    assert re.search(r"waits in pthread_mutex_lock \(lock\) .*, held by fiber 2\n", weft("dump", process.pid).stdout)


def test_a_running_fiber_is_shown_as_running(weft, start, python):
    process = start("run", python, "-c", BUSY)
    for _ in range(20):  # preempted now and then: sooner or later it is caught in its loop
        text = weft("dump", process.pid).stdout
        assert "waits in recv" in text
        if "is running on its carrier" in block_of(text, "busy"):
            break
    else:
        pytest.fail(f"never seen running:\n{text}")


STAYING = """
#define _GNU_SOURCE
#include <signal.h>
#include <time.h>
#include <sys/syscall.h>
#include <unistd.h>
static volatile int done;
__attribute__((noinline)) static void spin_here(void) { while (!done) { } }
void spin(void) { spin_here(); done = 0; }
static void finish(int number) { done = number; }
int count_urgent(void) { return signal(SIGURG, finish) == SIG_ERR; }
/* Weft leaves this clock to the kernel. */
__attribute__((noinline)) static int wait_here(struct timespec *length) {
  return clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, length, 0) + done;
}
int pin(void) { struct timespec length = {1000, 0}; return wait_here(&length) + done; }
/* A system call that Weft does not see. */
__attribute__((noinline)) static long call_here(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result + done;
}
long read_raw(int fd) { char byte; return call_here(SYS_read, fd, (long)&byte, 1) + done; }
long poll_raw(int milliseconds) { return call_here(SYS_poll, 0, 0, milliseconds) + done; }
"""


@pytest.fixture
def staying(compile_c, python, start):
    """staying(call) starts a program whose fiber 3 makes that call into libstaying.so."""
    library = compile_c("libstaying.so", STAYING, "-shared", "-fPIC", "-O1")

    def run(call, **options):
        script = f"import ctypes, os, threading, time\nlib = ctypes.CDLL('{library}')\nends = os.pipe()\n" \
                 "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n" \
                 f"def stays():\n    print('up', flush=True)\n    print({call}, flush=True)\n" \
                 "thread = threading.Thread(target=stays)\nthread.start()\nthread.join()\nos._exit(0)\n"
        return start("run", python, "-c", script, **options)

    return run


def assert_native(block, *functions):
    """The program's own frames, from the innermost on; none of Weft's before or behind them."""
    frames = block.split("  native:\n")[1].splitlines()
    for frame, function in zip(frames, functions):
        assert frame.startswith(f"    {function}+0x"), block
    assert "libweft-preload" not in block


def test_a_fiber_that_computes_has_its_native_stack(weft, staying):
    process = staying("lib.spin()")
    # From what it says to where it stays is a way still.
    wait_until(lambda: "running a fiber" in weft("dump", process.pid).stdout)
    text = weft("dump", process.pid).stdout
    stays = block_of(text, "stays")
    assert 'fiber 3 "Thread-2 (stays)" is running on its carrier' in stays
    assert_native(stays, "spin_here", "spin")
    assert "waits in clock_nanosleep" in text
    assert process.poll() is None


def test_a_pinned_fiber_shows_call_library_and_stack(weft, staying):
    process = staying("lib.pin()")
    wait_until(lambda: "pinned by" in weft("dump", process.pid).stdout)
    text = weft("dump", process.pid).stdout
    assert "pinned by fiber 3 in clock_nanosleep\n" in text
    stays = block_of(text, "stays")
    assert re.search(r"pins its carrier, OS thread \d+, in clock_nanosleep for \d+\.\d+ s, called from libstaying.so\n",
                     stays), stays
    assert_native(stays, "wait_here", "pin")


def test_a_read_that_weft_does_not_see_goes_on_after_a_dump(weft, staying):
    process = staying("lib.read_raw(ends[0])")
    wait_until(lambda: "blocked in system call 0" in weft("dump", process.pid).stdout)
    text = weft("dump", process.pid).stdout
    assert "blocked in system call 0, at call_here+0x" in text
    assert_native(block_of(text, "stays"), "call_here", "read_raw")
    with open(f"/proc/{process.pid}/fd/{pipe_of(process.pid)}", "wb", buffering=0) as end:
        end.write(b"x")
    assert process.communicate(timeout=20)[0] == "1\n"


def pipe_of(pid):
    """The writing end of the only pipe beside the standard streams."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with open(f"/proc/{pid}/fdinfo/{fd}") as info:
            writes = re.search(r"^flags:\s*\d*1$", info.read(), re.M)
        if int(fd) > 2 and writes and os.readlink(f"/proc/{pid}/fd/{fd}").startswith("pipe:"):
            return fd
    raise AssertionError("no pipe")


def test_a_poll_that_weft_does_not_see_is_not_interrupted(weft, staying):
    process = staying("lib.poll_raw(1500)")
    wait_until(lambda: "blocked in system call 7, at call_here+0x" in weft("dump", process.pid).stdout)
    assert process.communicate(timeout=20)[0] == "0\n"


def test_a_program_that_uses_sigurg_keeps_it(weft, staying):
    process = staying("(lib.count_urgent(), lib.spin())[0]")
    wait_until(lambda: "is running on its carrier" in block_of(weft("dump", process.pid).stdout, "stays"))
    process.send_signal(signal.SIGURG)  # the first one ends the loop
    assert process.communicate(timeout=20)[0] == "0\n"


def test_a_dump_disturbs_nobody(weft, start, python):
    process = start("run", python, "-c", WAIT.replace("threading.Event().wait()",
                                                      "end = time.monotonic() + 1\n"
                                                      "while time.monotonic() < end: time.sleep(0.001)\nprint('done')"))
    for _ in range(5):
        assert weft("dump", process.pid).returncode == 0
    out, _ = process.communicate(timeout=20)
    assert (out, process.returncode) == ("done\n", 0)


def test_a_forked_child_answers_for_itself(weft, start, python):
    script = "import os, threading, time\nfirst = threading.Thread(target=time.sleep, args=(0.01,))\n" \
             "first.start()\nfirst.join()\n" \
             "pid = os.fork()\nif pid == 0:\n  threading.Thread(target=time.sleep, args=(1000,)).start()\n" \
             "  print(os.getpid(), flush=True)\ntime.sleep(1000)\n"
    process = start("run", python, "-c", script)
    child = int(process.first_line)
    try:
        text = weft("dump", child).stdout
        assert f"weft: process {child}" in text
        assert "2 fibers" in text
        assert "1 fiber, 1 parked" in weft("dump", process.pid).stdout
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_process_that_has_no_fibers(weft, start, python):
    process = start("run", python, "-uc", "print('up'); import time; time.sleep(1000)")
    done = weft("dump", process.pid)
    assert done.returncode == 1
    assert "has not started a fiber" in done.stderr


def test_a_process_that_is_stopped(weft, start):
    process = start("run", sys.executable, "-c", WAIT)
    process.send_signal(signal.SIGSTOP)
    done = weft("dump", process.pid)
    assert done.returncode == 1
    assert f"does not answer within 5 s: it is stopped (state T); kill -CONT {process.pid} lets it go on" in done.stderr
    process.send_signal(signal.SIGCONT)
    assert weft("dump", process.pid).returncode == 0


def test_a_process_that_does_not_run_under_weft(weft):
    with subprocess.Popen(["sleep", "60"]) as plain:
        done = weft("dump", plain.pid)
        plain.kill()
    assert done.returncode == 1
    assert "does not run under Weft" in done.stderr


def test_a_process_that_is_not_there(weft):
    done = weft("dump", 4194300)
    assert done.returncode == 1
    assert "there is no process 4194300" in done.stderr


def test_a_signal_dumps_to_stderr(start, python):
    process = start("run", "--dump-signal=QUIT", python, "-c", WAIT.replace("threading.Event().wait()", "time.sleep(1)"))
    process.send_signal(signal.SIGQUIT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "waits in recv (io)" in err


def waited(block):
    """For how many seconds the fiber has waited."""
    return float(re.search(r" for (\d+\.\d+) s", block).group(1))


def test_a_signal_leaves_the_main_thread_as_it_was(start, python):
    main = "libc = ctypes.CDLL(None)\nlength = (ctypes.c_long * 2)(2, 0)\nprint(libc.nanosleep(length, None))\n"
    process = start("run", "--dump-signal=QUIT", python, "-c", "import ctypes\n" + PARKED + main)
    time.sleep(0.4)
    process.send_signal(signal.SIGQUIT)
    time.sleep(0.4)
    process.send_signal(signal.SIGQUIT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "0\n")
    first, second = [block for block in err.split("\n\n") if "waits in nanosleep" in block]
    assert waited(first) >= 0.3
    assert waited(second) >= waited(first) + 0.3
    assert "idle: every fiber waits" in err


def test_a_signal_before_the_first_thread_does_no_harm(start, python):
    process = start("run", "--dump-signal=QUIT", python, "-uc", "print('up'); import time; time.sleep(0.5); print('done')")
    process.send_signal(signal.SIGQUIT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "done\n")
    assert "no thread yet" in err


def test_without_the_option_signals_keep_their_meaning(start, python):
    process = start("run", python, "-c", WAIT)
    process.send_signal(signal.SIGQUIT)
    assert process.wait(20) == -signal.SIGQUIT


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_other_users_get_no_dump(weft, start, python):
    process = start("run", python, "-c", WAIT)
    wait_until(lambda: weft("dump", process.pid).returncode == 0)
    done = weft("dump", process.pid, user=65534, group=65534, extra_groups=[])
    assert done.returncode != 0
    assert done.stdout == ""
