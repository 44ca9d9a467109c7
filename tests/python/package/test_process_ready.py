"""weft.process: readiness by several things at once, ports, pytest fixtures."""

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import weakref

import pytest
from commands import SERVER, no_process_is_left, port, python  # noqa: F401

import weft
from weft.process import (
    AlreadyRunning,
    Executor,
    ExitedBeforeReady,
    OutputExecutor,
    Process,
    ProcessExitedWithError,
    ReadinessExecutor,
    Ready,
    SimpleExecutor,
    TimeoutExpired,
    reserve_port,
)


def test_a_reserved_port_is_nobody_elses():
    with reserve_port() as port:
        others = [reserve_port() for _ in range(50)]
        assert len({int(each) for each in [port, *others]}) == 51
        with socket.socket() as other, pytest.raises(OSError):
            other.bind(("127.0.0.1", int(port)))


class TestSeveralAtOnce:
    def test_all(self, port, tmp_path):
        ready = Ready.all(Ready.tcp("127.0.0.1", port), Ready.output("^listening"), Ready.file(str(tmp_path / "done")))
        text = ("import socket, sys, time\ns = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
                "print('listening', flush=True)\nopen(sys.argv[2], 'w')\ntime.sleep(1000)")
        with ReadinessExecutor(python(text, port, tmp_path / "done"), ready, timeout=20) as executor:
            assert (tmp_path / "done").exists()
            assert executor.output().readline() == "listening\n"  # looking for it takes nothing away
            with pytest.raises(AlreadyRunning, match=str(port)):
                ReadinessExecutor("true", ready).start()

    def test_any(self, port):
        ready = Ready.any(Ready.tcp("127.0.0.1", port), Ready.output("up"))
        with ReadinessExecutor(["sh", "-c", "echo up; sleep 1000"], ready, timeout=20):
            pass

    def test_what_is_missing_is_told(self, port):
        ready = Ready.all(Ready.tcp("127.0.0.1", port), Ready.output("up"))
        with pytest.raises(TimeoutExpired) as caught:
            ReadinessExecutor(["sh", "-c", "echo up; sleep 1000"], ready, timeout=0.5).start()
        assert f"127.0.0.1:{port}" in caught.value.seen and "output" not in caught.value.seen

    def test_a_function(self, run):
        looks = []

        def look():
            looks.append(1)
            return len(looks) == 3

        def start():
            with ReadinessExecutor(["sleep", "1000"], Ready.custom(look), timeout=20):
                return len(looks)

        assert run(start) == 3

    def test_a_function_that_raises(self):
        def look():
            raise LookupError("ours")

        with pytest.raises(LookupError, match="ours"):
            ReadinessExecutor(["sleep", "1000"], Ready.custom(look)).start()

    def test_output_that_has_ended(self):
        with pytest.raises(ExitedBeforeReady, match="ended without"):
            ReadinessExecutor("true", Ready.output("never"), timeout=20).start()

    @pytest.mark.parametrize("make, error", [
        (lambda: Ready.tcp("127.0.0.1", 0), "expected 1 to 65535"),
        (lambda: Ready.http("ftp://here"), "unknown scheme"),
        (lambda: Ready.output("("), "expected one of Perl's syntax"),
        (lambda: Ready.all(), "expected one or more"),
    ])
    def test_bad_input(self, make, error):
        with pytest.raises(ValueError, match=error):
            make()


@pytest.mark.parametrize("workers", [(), ("-n", "4")], ids=["alone", "xdist"])
def test_fixtures(tmp_path, workers):
    test = f"""
import sys, socket
from weft.process import TCPExecutor
from weft.process.fixtures import service
pytest_plugins = ["weft.process.fixtures"]

def start(reserve_ports):
    port = int(reserve_ports())
    return TCPExecutor([sys.executable, "-S", "-c", {SERVER!r}, str(port)], "127.0.0.1", port, timeout=30)

server = service(start, scope="module")

def test_one(server):
    assert server.running()

def test_two(server, reserved_port):
    assert server.running() and int(reserved_port) != server.port
    socket.create_connection((server.host, server.port)).close()
"""
    for number in range(8):
        (tmp_path / f"test_{number}.py").write_text(test)
    done = subprocess.run([sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers, tmp_path],
                          capture_output=True, text=True, timeout=100, cwd=tmp_path, check=False)
    assert done.returncode == 0 and "16 passed" in done.stdout, done.stdout


def test_a_fixture_that_makes_no_executor_is_named(tmp_path):
    (tmp_path / "test_it.py").write_text("""
from weft.process.fixtures import service
def start_it(request): return request.node.name
database = service(start_it)
def test_one(database): pass
""")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path], capture_output=True,
                          text=True, timeout=60, cwd=tmp_path, check=False)
    assert "database: what service() was given must return an executor that is not started, not 'test_one'" in done.stdout


class TestFoundInReview:
    def test_the_packages_program_finds_the_keeper(self):
        program = os.path.join(sys.prefix, "bin", "weft")
        clean = {name: value for name, value in os.environ.items() if name != "WEFT_KEEPER"}
        done = subprocess.run([program, "exec", "--wait-output", "here", sys.executable, "-c", "import time; print('here', flush=True); "
                               "time.sleep(1000)", "--", "echo", "done"], env=clean, capture_output=True, text=True,
                              timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr

    def test_a_fork_elsewhere_does_not_hold_up_the_end(self, run_program):
        done = run_program("""
            import os, threading, time
            from weft.process import SimpleExecutor
            stop, forked = threading.Event(), []
            def fork_on():
                while not stop.is_set():
                    pid = os.fork()
                    if pid == 0:
                        time.sleep(20)
                        os._exit(0)
                    forked.append(pid)
                    time.sleep(0.001)
            thread = threading.Thread(target=fork_on)
            thread.start()
            began = time.monotonic()
            for _ in range(20):
                SimpleExecutor("true").start().kill()
            print(time.monotonic() - began)
            stop.set()
            thread.join()
            for pid in forked:
                os.kill(pid, 9)
        """)
        assert float(done.stdout) < 15, done.stderr

    def test_an_end_comes_through_however_many_signals_wait(self):
        executor = SimpleExecutor(["sleep", "1000"]).start()
        with pytest.raises(BlockingIOError):
            for _ in range(100_000):
                executor._kill_all_kids(signal.SIGURG)
        executor.kill()

    def test_a_process_whose_first_thread_has_ended_is_killed(self):
        text = ("import ctypes, os, threading, time\nif os.fork(): time.sleep(1000)\nos.setsid()\n"
                "threading.Thread(target=time.sleep, args=(1000,)).start()\nprint('ready', flush=True)\n"
                "ctypes.CDLL(None).syscall(60, 0)")
        OutputExecutor(python(text), "ready", timeout=20).start().kill()

    def test_killing_from_another_thread_ends_a_start(self, until):
        class Ours(Executor):
            def pre_start_check(self):
                return False

            def after_start_check(self):
                return False

        executor = Ours(["sleep", "1000"], timeout=60)
        fiber = weft.spawn(executor.start)
        until(executor.running)
        executor.kill()
        # Which of the two it sees first.
        with pytest.raises((TimeoutExpired, ProcessExitedWithError), match="stopped meanwhile|code: -9"):
            fiber.result()

    def test_killing_beside_who_writes_to_it(self, until):
        executor = SimpleExecutor(["sleep", "1000"]).start()
        writer = weft.spawn(lambda: executor.process.stdin.write("x" * 1_000_000))
        for _ in range(5):
            weft.yield_now()
        executor.kill(wait=False)
        with pytest.raises((BrokenPipeError, ValueError, AttributeError)):
            writer.result()

    def test_a_log_that_cannot_be_opened(self):
        executor = SimpleExecutor(["sleep", "1000"], log="/no/such/folder/log")
        with pytest.raises(FileNotFoundError, match="the log cannot be written"):
            executor.start()
        assert executor.process is None

    def test_a_banner_at_the_beginning_of_a_line(self):
        with OutputExecutor(["sh", "-c", "echo starting; sleep 0.1; echo ready; sleep 1000"], "^ready$", timeout=20):
            pass
        with pytest.raises(ExitedBeforeReady):
            OutputExecutor(["sh", "-c", "yes 'not ready' | head -n 100000"], "^ready$", timeout=20).start()

    def test_output_that_was_pushed_out_amid_a_character(self):
        with SimpleExecutor(python("print('x' + 5000 * 'é' + '\\nlast')"), kept_output=4097) as executor:
            executor.process.wait(10)
            assert executor.process._child.wait_gone(10)
            assert executor.output().read() == "last\n"

    def test_output_that_is_closed_is_no_end(self):
        executor = ReadinessExecutor(["sh", "-c", "exec >&- 2>&-; sleep 1000"], Ready.output("x"), timeout=20)
        with pytest.raises(TimeoutExpired, match="closed its output") as caught:
            executor.start()
        assert not isinstance(caught.value, ExitedBeforeReady)

    def test_a_fork_has_no_say(self, run_program):
        done = run_program("""
            import os
            from weft.process import SimpleExecutor
            with SimpleExecutor(["sleep", "1000"]) as executor:
                if os.fork() == 0:
                    executor.stop()
                    os._exit(7)
                print(os.waitstatus_to_exitcode(os.wait()[1]), executor.running())
        """)
        assert done.stdout == "7 True\n", done.stderr

    def test_communicating_has_an_end(self):
        process = Process(["sleep", "1000"], stdin=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate("x" * 1_000_000, timeout=0.3)
        assert Process(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE).communicate("a", timeout=10) == ("a", None)

    def test_a_signal_that_there_is_not(self):
        with SimpleExecutor(["sleep", "1000"]) as executor:
            for number in (0, -1, 9999):
                with pytest.raises(OSError, match="Invalid argument"):
                    executor.process.send_signal(number)


@pytest.mark.parametrize("started", [False, True])
def test_an_executor_that_asks_its_owner_is_collected(started):
    class Owner:
        def __init__(self):
            ready = Ready.all(Ready.custom(self.is_ready), Ready.any(Ready.custom(lambda: self.is_ready())))
            self.executor = ReadinessExecutor(["sleep", "1000"], ready)

        def is_ready(self):
            return True

    owner = Owner()
    if started:
        owner.executor.start().stop()
    seen = weakref.ref(owner)
    del owner
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("fails", ["at once", "late"])
def test_what_failed_to_start_is_not_left_to_the_collector(fails):
    gc.collect()
    gc.disable()
    try:
        executor = ReadinessExecutor(["false"] if fails == "at once" else ["sleep", "1000"], Ready.custom(lambda: False), timeout=0.2)
        seen = weakref.ref(executor)
        with contextlib.suppress(ProcessExitedWithError, TimeoutExpired):
            executor.start()
        del executor
        assert seen() is None
    finally:
        gc.enable()
