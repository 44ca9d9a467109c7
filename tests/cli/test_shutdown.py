"""What becomes of threads when the interpreter ends."""

# Threads that have not begun when the interpreter finalises, and a finaliser that waits in a full pipe. Threads that
# are started with `_thread` are daemons: nobody waits for them.
NOT_BEGUN = """
import _thread, fcntl, os, sys
class Late:
    def __del__(self, write=os.write):
        write(1, b"-" * 4096)
        write(1, b"end")
sys.modules["late"] = Late()
gate = _thread.allocate_lock()
gate.acquire()
def wait():
    with gate: pass
fcntl.fcntl(1, fcntl.F_SETPIPE_SZ if hasattr(fcntl, "F_SETPIPE_SZ") else 1031, 4096)
for _ in range(100): _thread.start_new_thread(wait, ())
gate.release()
"""


def test_threads_that_have_not_begun(weft, python):
    done = weft("run", python, "-c", NOT_BEGUN)
    assert (done.returncode, done.stdout, done.stderr) == (0, "-" * 4096 + "end", "")


def test_the_watchdog_of_faulthandler_is_waited_for(weft, python):
    done = weft("run", python, "-c", "import faulthandler; faulthandler.dump_traceback_later(1000)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
