"""weft.process: no call leaks, whatever the command does.

CASES has what each function calls: test_leaks_of_ours.py compares that with what is public.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import urllib.parse

import pytest

import weft.process.fixtures
from public_calls import ends, refuses
from weft.process import (
    AlreadyRunning,
    ExecutorError,
    ExitedBeforeReady,
    HTTPExecutor,
    LeftBehind,
    OutputExecutor,
    PidExecutor,
    Process,
    ProcessExitedWithError,
    ProcessFinishedWithError,
    ReadinessExecutor,
    Ready,
    ReservedPort,
    SimpleExecutor,
    TCPExecutor,
    TimeoutExpired,
    UnixSocketExecutor,
    listening_socket,
    reserve_port,
)

SLEEP = ["sleep", "1000"]


class Failed(Exception):
    pass


def fail():
    raise Failed


@contextlib.contextmanager
def serving(family, address, answer=b""):
    """Something listens there, accepts each who comes, and answers."""
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
        fiber = weft.spawn(accept, listener, answer)
        try:
            yield listener
        finally:
            fiber.cancel()
            fiber.join()


def accept(listener, answer):
    while weft.wait_readable(listener):
        with listener.accept()[0] as connection:
            if answer:
                weft.wait_readable(connection)
                connection.recv(10000)
                connection.sendall(answer)


@contextlib.contextmanager
def begun_later(path, make):
    """What listens as soon as the command has made that file: what it looks at before, is not there."""
    left = contextlib.ExitStack()

    def begin():
        while not os.path.exists(path):
            weft.sleep(0.0002)
        left.enter_context(make())

    fiber = weft.spawn(begin)
    with left:
        try:
            yield
        finally:
            fiber.cancel()
            fiber.join()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def in_folder(name):
    return os.path.join(tempfile.gettempdir(), name)


def beginning():
    return f": > {in_folder('begun')}; exec sleep 1000"


# --- Processes.


def a_process_runs():
    process = Process(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.pid > 0 and process.poll() is None and process.returncode is None
    refuses(subprocess.TimeoutExpired, process.wait, 0.0001)
    assert process.communicate("text")[0] == "text" and process.wait() == 0
    process.terminate()
    ends_by_a_signal = Process(SLEEP)
    ends_by_a_signal.terminate()
    assert ends_by_a_signal.wait() == -signal.SIGTERM
    with contextlib.closing(Process(SLEEP, stdout=subprocess.PIPE).stdout):
        pass


def a_process_is_killed():
    process = Process(SLEEP)
    ends(process.wait)
    process.send_signal(signal.SIGCONT)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    refuses(OSError, Process, ["/no such file"])
    refuses(TypeError, Process)
    refuses(ValueError, Process, ["a\0b"])


# --- Executors.


def an_executor_starts_and_stops():
    with SimpleExecutor("echo $NAME; exec sleep 1000", shell=True, envvars={"NAME": "x" * 100}) as executor:
        assert executor.running() and executor.check_timeout() and "NAME" in executor.envvars and repr(executor)
        assert executor.output().readline() and executor.tail() and executor.err_output() is None
        with executor.stopped():
            assert not executor.running()
        assert executor.wait_for(lambda: True) is executor
    assert executor.start().kill().stop() is executor
    SimpleExecutor(SLEEP).start()  # ended with the executor


def an_executor_fails():
    refuses(ValueError, SimpleExecutor, "")
    refuses(TypeError, SimpleExecutor, SLEEP, no_such=5)
    refuses(FileNotFoundError, SimpleExecutor(["/no such file"]).start)
    executor = SimpleExecutor(SLEEP, timeout=0.001).start()
    refuses(TimeoutExpired, executor.wait_for, lambda: False)
    executor = SimpleExecutor(SLEEP).start()
    refuses(Failed, executor.wait_for, fail)
    executor.stop()
    executor = OutputExecutor("trap 'exit 5' TERM; echo ready; read line", "ready", shell=True).start()
    refuses(ProcessFinishedWithError, executor.stop)
    refuses(ProcessExitedWithError, OutputExecutor("echo why; exit 5", "ready", shell=True).start)


def an_executor_of_ones_own():
    executor = OwnExecutor(SLEEP).start()
    assert executor.check_subprocess() and executor.after_start_check() and not executor.pre_start_check()
    executor.stop()
    refuses(NotImplementedError, weft.process.Executor(SLEEP).start)
    refuses(ProcessExitedWithError, OwnExecutor("exit 5", shell=True, ready=False).start)
    refuses(TimeoutExpired, OwnExecutor(SLEEP, timeout=0.001, ready=False).start)
    ends(lambda: OwnExecutor(SLEEP, ready=False).start())


class OwnExecutor(weft.process.Executor):
    def __init__(self, command, ready=True, **options):
        super().__init__(command, **options)
        self.ready = ready

    def pre_start_check(self):
        return False

    def after_start_check(self):
        return self.ready


def an_output_is_waited_for():
    OutputExecutor("echo one; echo ready 7; exec sleep 1000", r"ready \d$", shell=True).start().stop()
    refuses(TimeoutExpired, OutputExecutor(SLEEP, "ready", timeout=0.001).start)
    refuses(re.error, OutputExecutor, SLEEP, "(")
    ends(lambda: OutputExecutor(SLEEP, "ready").start())


def a_port_is_waited_for():
    with reserve_port() as port:
        executor = TCPExecutor(beginning(), "127.0.0.1", port, shell=True)
        address = ("127.0.0.1", int(port))
        with begun_later(in_folder("begun"), lambda: serving(socket.AF_INET, address)):
            executor.start()
            assert executor.after_start_check() and executor.pre_start_check()
            refuses(AlreadyRunning, TCPExecutor(SLEEP, "127.0.0.1", port).start)
            executor.stop()
    refuses(ValueError, TCPExecutor, SLEEP, "127.0.0.1", 0)


def a_unix_socket_is_waited_for():
    path = in_folder("socket")
    executor = UnixSocketExecutor(beginning(), path, shell=True)
    with begun_later(in_folder("begun"), lambda: serving(socket.AF_UNIX, path)):
        executor.start()
        assert executor.after_start_check() and executor.pre_start_check()
        refuses(AlreadyRunning, UnixSocketExecutor(SLEEP, path).start)
        executor.stop()
    os.unlink(path)
    refuses(ValueError, UnixSocketExecutor, SLEEP, "")


def a_page_is_waited_for():
    with reserve_port() as port:
        url, address = f"http://127.0.0.1:{int(port)}/", ("127.0.0.1", int(port))
        executor = HTTPExecutor(beginning(), url, method="POST", payload={"a": "b"}, headers={"X": "y"}, shell=True)
        answer = b"HTTP/1.1 200 Here\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        with begun_later(in_folder("begun"), lambda: serving(socket.AF_INET, address, answer)):
            executor.start()
            assert executor.after_start_check()
            executor.stop()
        refuses(TimeoutExpired, HTTPExecutor(SLEEP, url, timeout=0.001).start)
    refuses(ValueError, HTTPExecutor, SLEEP, "ftp://host")
    urllib.parse.clear_cache()  # it has room for more URLs than there are calls


def a_file_is_waited_for():
    path = in_folder("pid")
    executor = PidExecutor(f": > {path}; exec sleep 1000", path, shell=True).start()
    assert executor.after_start_check() and executor.pre_start_check()
    refuses(AlreadyRunning, PidExecutor(SLEEP, path).start)
    executor.stop()
    os.unlink(path)
    refuses(ValueError, PidExecutor, SLEEP, "")
    refuses(TimeoutExpired, PidExecutor(["true"], path, timeout=0.01).start)  # ExitedBeforeReady, if it was fast enough


def several_things_are_waited_for():
    asked = []
    ready = Ready.all(Ready.output("ready"), Ready.any(Ready.custom(lambda: asked.append(1) or len(asked) > 2), Ready.file("/no")))
    assert ready.needs_output and ready.present() == "" and repr(ready)
    executor = ReadinessExecutor("echo ready; exec sleep 1000", ready, shell=True)
    assert not executor.pre_start_check()
    executor.start()
    assert executor.after_start_check()
    executor.stop()
    refuses(Failed, ReadinessExecutor(SLEEP, Ready.custom(fail)).start)
    refuses(TypeError, ReadinessExecutor, SLEEP, 5)


def what_is_waited_for_is_refused():
    Ready.all(Ready.tcp("localhost", 1), Ready.unix_socket("/x"), Ready.http("http://localhost/", headers=[("a", "b")]))
    refuses(ValueError, Ready.tcp, "", 1)
    refuses(ValueError, Ready.unix_socket, "")
    refuses(ValueError, Ready.http, "nothing")
    refuses(ValueError, Ready.output, "(")
    refuses(ValueError, Ready.file, "")
    refuses(TypeError, Ready.custom, 5)
    refuses(ValueError, Ready.all)
    refuses(TypeError, Ready.any, 5)


def ports():
    with ReservedPort() as port, listening_socket() as listener:
        assert int(port) > 0 and repr(port) and listener.getsockname()
    port.release()
    refuses(OSError, ReservedPort, "192.0.2.1")
    refuses(OSError, reserve_port, "192.0.2.1")
    refuses(OSError, listening_socket, "192.0.2.1")


def errors():
    executor = SimpleExecutor(SLEEP)
    with contextlib.suppress(ExecutorError):
        raise LeftBehind(executor, "why")
    for kind in (AlreadyRunning, ExitedBeforeReady, ProcessExitedWithError, ProcessFinishedWithError, TimeoutExpired):
        assert issubclass(kind, ExecutorError)


CASES = {
    a_process_runs: "Process Process.pid Process.poll Process.returncode Process.wait Process.communicate Process.terminate",
    a_process_is_killed: "Process Process.wait Process.send_signal Process.kill",
    an_executor_starts_and_stops: "SimpleExecutor SimpleExecutor.start SimpleExecutor.stop SimpleExecutor.kill SimpleExecutor.running"
    " SimpleExecutor.check_timeout SimpleExecutor.envvars SimpleExecutor.output SimpleExecutor.tail SimpleExecutor.err_output"
    " SimpleExecutor.stopped SimpleExecutor.wait_for",
    an_executor_fails: "SimpleExecutor SimpleExecutor.start SimpleExecutor.wait_for SimpleExecutor.stop ProcessFinishedWithError"
    " ProcessExitedWithError TimeoutExpired",
    an_executor_of_ones_own: "Executor Executor.start Executor.check_subprocess Executor.pre_start_check Executor.after_start_check",
    an_output_is_waited_for: "OutputExecutor OutputExecutor.start",
    a_port_is_waited_for: "TCPExecutor TCPExecutor.after_start_check TCPExecutor.pre_start_check AlreadyRunning reserve_port",
    a_unix_socket_is_waited_for: "UnixSocketExecutor UnixSocketExecutor.after_start_check UnixSocketExecutor.pre_start_check",
    a_page_is_waited_for: "HTTPExecutor HTTPExecutor.start HTTPExecutor.after_start_check",
    a_file_is_waited_for: "PidExecutor PidExecutor.after_start_check PidExecutor.pre_start_check ExitedBeforeReady",
    several_things_are_waited_for: "ReadinessExecutor ReadinessExecutor.pre_start_check ReadinessExecutor.after_start_check"
    " Ready.all Ready.any Ready.custom Ready.output Ready.needs_output Ready.present",
    what_is_waited_for_is_refused: "Ready Ready.tcp Ready.unix_socket Ready.http Ready.output Ready.file Ready.custom Ready.all Ready.any",
    ports: "ReservedPort ReservedPort.release reserve_port listening_socket",
    errors: "ExecutorError LeftBehind",
}
MODULE = "process."


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_no_leak(case, leaks_nothing):
    leaks_nothing(case)
