"""weft.process: what executors do with commands. What mirakuru's own tests ask stands in tests/conformance/peers."""

import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from commands import SERVER, family_of, no_process_is_left, port, processes, python  # noqa: F401

import weft
from weft.process import (
    AlreadyRunning,
    Executor,
    ExitedBeforeReady,
    HTTPExecutor,
    OutputExecutor,
    PidExecutor,
    Process,
    ProcessExitedWithError,
    ProcessFinishedWithError,
    SimpleExecutor,
    TCPExecutor,
    TimeoutExpired,
    UnixSocketExecutor,
    listening_socket,
)


class TestStarting:
    def test_output_is_read_and_the_end_is_told(self):
        executor = SimpleExecutor(["sh", "-c", "echo out; echo err >&2; exit 3"], stderr=subprocess.PIPE).start()
        process = executor.process
        assert process.wait(10) == 3 == process.returncode == process.poll()
        assert process.stdout.read() == "out\n" and process.stderr.read() == "err\n"

    @pytest.mark.parametrize("command", ["cat | tr a-z A-Z", ["cat | tr a-z A-Z"]])
    def test_a_shell(self, command):
        process = Process(command if isinstance(command, str) else command[0], shell=True, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE)
        assert process.communicate("abc", timeout=10) == ("ABC", None)

    def test_environment_and_folder(self, tmp_path):
        executor = SimpleExecutor(["sh", "-c", "pwd; echo $MARK; echo $HOME"], cwd=str(tmp_path), envvars={"MARK": "here"})
        with executor:
            assert executor.output().read() == f"{tmp_path}\nhere\n{os.environ['HOME']}\n"

    def test_another_user(self):
        executor = SimpleExecutor(["sh", "-c", "id -u; id -g; id -G; umask"], popen_kwargs={
            "user": 65534, "group": 65533, "extra_groups": [65532, 65531], "umask": 0o027})
        if os.geteuid() != 0:
            with pytest.raises(PermissionError, match="the command's user or group cannot be set"):
                executor.start()
            return
        with executor:
            user, group, groups, umask = executor.output().read().splitlines()
        assert (user, group, int(umask, 8)) == ("65534", "65533", 0o027)
        assert set(groups.split()) == {"65533", "65532", "65531"}

    def test_the_command_has_no_descriptors_of_ours(self):
        ours = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(ours, True)
        try:
            with SimpleExecutor(["ls", "/proc/self/fd"]) as executor:
                assert executor.output().read().split() == ["0", "1", "2", "3"]  # the last is of ls
        finally:
            os.close(ours)

    def test_descriptors_are_passed(self):
        reads, writes = os.pipe()
        try:
            with Process(["sh", "-c", "echo through >&7"], pass_fds={writes: 7}) as process:
                assert process.wait(10) == 0
            assert os.read(reads, 100) == b"through\n"
        finally:
            os.close(reads)
            os.close(writes)

    def test_a_socket_that_listens_is_handed_over(self):
        with listening_socket() as made:
            text = """
import os, socket
assert os.environ["LISTEN_FDS"] == "1" and int(os.environ["LISTEN_PID"]) == os.getpid()
connection, _ = socket.socket(fileno=3).accept()
connection.sendall(b"served")
"""
            with SimpleExecutor(python(text), listen=[made]), socket.create_connection(made.getsockname()) as client:
                assert client.recv(100) == b"served"

    def test_limits_umask_and_signals(self):
        options = {"umask": 0o27, "limits": [(resource.RLIMIT_NOFILE, (77, 88))]}
        with SimpleExecutor(["sh", "-c", "umask; ulimit -Sn; ulimit -Hn; grep SigBlk /proc/self/status"],
                            popen_kwargs=options) as executor:
            *lines, blocked = executor.output().read().split("\n")[:4]
        assert lines == ["0027", "77", "88"] and int(blocked.split()[1], 16) == 0

    def test_without_descriptors_nothing_is_started(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
            with pytest.raises(OSError, match="Too many open files"):
                while True:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
            while taken:
                try:
                    SimpleExecutor("true", stderr=subprocess.PIPE).start().stop()
                    break
                except OSError as error:
                    assert "Too many open files" in str(error)
                    os.close(taken.pop())
        finally:
            for number in taken:
                os.close(number)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestEnding:
    def test_what_detached_itself_ends_too(self):
        text = "import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork(): os._exit(0)\n print('daemon', flush=True)\ntime.sleep(1000)"
        executor = OutputExecutor(python(text), "daemon", timeout=10).start()
        keeper = processes()[executor.process.pid][0]
        assert len(family_of(keeper)) == 2
        executor.stop()

    def test_what_ignores_the_stop_signal_is_killed_after_the_grace(self):
        text = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(1000)"
        executor = OutputExecutor(python(text), "deaf", timeout=10, grace=0.3).start()
        began = time.monotonic()
        executor.stop()
        assert 0.3 <= time.monotonic() - began < 5

    def test_what_ends_in_time_is_not_killed(self):
        text = ("import signal, time, sys\n"
                "def end(*_):\n print('tidied up', flush=True)\n sys.exit(0)\n"
                "signal.signal(15, end)\nprint('ready', flush=True)\ntime.sleep(1000)")
        executor = OutputExecutor(python(text), "ready", timeout=10).start()
        output = executor.output()
        executor.stop()
        assert output.read() == "tidied up\n"

    def test_an_exit_code_that_was_not_expected(self):
        with pytest.raises(ProcessFinishedWithError) as caught:
            executor = SimpleExecutor(["sh", "-c", "echo oh dear; exit 4"]).start()
            executor.process.wait(10)
            executor.stop()
        assert caught.value.exit_code == 4 and "oh dear" in str(caught.value)
        executor = SimpleExecutor(["sh", "-c", "exit 4"], expected_returncode=4).start()
        executor.process.wait(10)
        executor.stop()

    def test_a_stopped_command_hears_the_stop_signal(self):
        executor = SimpleExecutor(["sleep", "1000"]).start()
        os.kill(executor.process.pid, signal.SIGSTOP)
        executor.stop()

    def test_kill_without_waiting(self):
        executor = SimpleExecutor(["sleep", "1000"]).start()
        process = executor.process
        executor.kill(wait=False)
        assert not executor.running()
        assert process._child.wait_gone(10)

    @pytest.mark.parametrize("how", ["os._exit(0)", "os.kill(os.getpid(), 9)", "raise SystemExit(1)", "raise KeyboardInterrupt",
                                     "os.abort()", "None"])
    def test_nothing_outlives_the_program(self, run_program, how, until):
        done = run_program(f"""
            import os, sys
            from weft.process import OutputExecutor
            text = "import os, time\\nif os.fork() == 0: os.setsid()\\nos.write(1, b'here\\\\n')\\ntime.sleep(1000)"
            executor = OutputExecutor([sys.executable, "-S", "-c", text], r"here\\nhere", timeout=20).start()
            print(executor.process.pid, flush=True)
            {how}
        """)
        pid = int(done.stdout)
        until(lambda: not [each for each in os.listdir("/proc") if each.isdigit() and session_of(each) == pid])

    def test_a_fork_that_lives_on_does_not_keep_it(self, run_program, until):
        done = run_program("""
            import os, time
            from weft.process import SimpleExecutor
            executor = SimpleExecutor(["sleep", "1000"]).start()
            assert executor.running()
            reads, writes = os.pipe()
            if os.fork() == 0:
                os.write(writes, b"%d %d\\n" % (os.getpid(), executor.running()))
                os.close(1), os.close(2)
                time.sleep(1000)
            print(os.read(reads, 100).decode(), executor.process.pid, flush=True)
            os._exit(0)
        """)
        forked, running, command = map(int, done.stdout.split())
        assert not running
        until(lambda: not os.path.exists(f"/proc/{command}"), 10)
        os.kill(forked, signal.SIGKILL)  # raises if it was not there all the time


def session_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[3])


class TestReadiness:
    def test_a_tcp_server(self, port):
        with TCPExecutor(python(SERVER, port), "127.0.0.1", port, timeout=20):
            with pytest.raises(AlreadyRunning, match=f"port {port} of 127.0.0.1 is taken"):
                TCPExecutor("true", "127.0.0.1", port).start()

    def test_an_http_server(self, port):
        with HTTPExecutor(python(SERVER, port), f"http://127.0.0.1:{port}/204", timeout=20) as executor:
            assert executor.running()

    def test_a_server_that_answers_500_for_ever(self, port):
        executor = HTTPExecutor(python(SERVER, port), f"http://127.0.0.1:{port}/500", timeout=2)
        with pytest.raises(TimeoutExpired, match="500"):
            executor.start()
        executor = HTTPExecutor(python(SERVER, port), f"http://127.0.0.1:{port}/500", status="2..|404", timeout=2)
        with pytest.raises(TimeoutExpired, match=r"HTTP 500 .*, but the status is to match '2..\|404'") as caught:
            executor.start()
        # Once, though the last look may have had no time of its own.
        assert caught.value.seen.count("is to match") == 1
        executor._endtime, executor._seen = time.monotonic(), "HTTP 500, but the status is to match '2..|404'"
        assert not executor.after_start_check()
        assert executor._seen.count("is to match") == 1

    def test_one_that_listens_elsewhere_is_told_where(self, port):
        with listening_socket() as elsewhere:
            number = elsewhere.getsockname()[1]
            executor = TCPExecutor(["sleep", "1000"], "127.0.0.1", port, timeout=0.3, listen=[elsewhere])
            with pytest.raises(TimeoutExpired, match=f"refuses connections; the command listens at 127.0.0.1:{number}$"):
                executor.start()

    def test_what_one_start_has_seen_is_not_of_the_next(self, port):
        class Ours(Executor):
            def pre_start_check(self):
                return False

            def after_start_check(self):
                self._seen += "x refuses connections"
                return False

        with listening_socket() as elsewhere:
            executor = Ours(["sleep", "1000"], timeout=0.01, sleep=0.1, listen=[elsewhere])
            seen = []
            for _ in range(2):
                with pytest.raises(TimeoutExpired) as caught:
                    executor.start()
                seen.append(caught.value.seen)
        assert [text.count("listens at") for text in seen] == [1, 1] and not seen[1].startswith(seen[0] + ";")

    def test_a_request_may_take_longer(self, port):
        slow = ("import http.server, time\n"
                "class Handler(http.server.BaseHTTPRequestHandler):\n"
                "    def do_HEAD(self):\n        time.sleep(1.5); self.send_response(200); self.end_headers()\n"
                f"http.server.HTTPServer(('127.0.0.1', {port}), Handler).serve_forever()")
        with HTTPExecutor(python(slow), f"http://127.0.0.1:{port}/", timeout=30, request_timeout=10,
                          stderr=subprocess.PIPE) as executor:
            assert "HEAD / " in executor.err_output().readline()
            assert len([line for line in executor.tail() if "HEAD / " in line]) == 1
        # The last request may have had less time left than that.
        with pytest.raises(TimeoutExpired, match=r"within (200|1?\d?\d\.\d+) ms$"):
            HTTPExecutor(python(slow), f"http://127.0.0.1:{port}/", timeout=3, request_timeout=0.2).start()

    def test_the_parameters_of_a_path_are_asked_for_too(self, port):
        server = ("import http.server\n"
                  "class Handler(http.server.BaseHTTPRequestHandler):\n"
                  "    def do_HEAD(self):\n"
                  "        self.send_response(200 if self.path == '/a;b=1?c=2' else 404); self.end_headers()\n"
                  f"http.server.HTTPServer(('127.0.0.1', {port}), Handler).serve_forever()")
        with HTTPExecutor(python(server), f"http://127.0.0.1:{port}/a;b=1?c=2#d", timeout=20):
            pass

    def test_a_server_that_accepts_and_never_answers(self, port):
        text = "import socket, sys, time\ns = socket.create_server(('127.0.0.1', int(sys.argv[1])))\ntime.sleep(1000)"
        executor = HTTPExecutor(python(text, port), f"http://127.0.0.1:{port}/", timeout=2)
        began = time.monotonic()
        with pytest.raises(TimeoutExpired) as caught:
            executor.start()
        assert time.monotonic() - began < 4 and caught.value.seen

    def test_a_unix_socket(self, tmp_path):
        path = str(tmp_path / "socket")
        text = "import socket, sys, time\ns = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\ntime.sleep(1000)"
        with UnixSocketExecutor(python(text, path), path, timeout=20):
            with pytest.raises(AlreadyRunning):
                UnixSocketExecutor("true", path).start()

    def test_a_daemon_that_writes_its_pid(self, tmp_path):
        path = tmp_path / "pid"
        text = ("import os, sys, time\nif os.fork(): os._exit(0)\nos.setsid()\n"
                "with open(sys.argv[1] + '.new', 'w') as file: file.write(str(os.getpid()))\n"
                "os.rename(sys.argv[1] + '.new', sys.argv[1])\ntime.sleep(1000)")
        with PidExecutor(python(text, path), str(path), timeout=20) as executor:
            daemon = int(path.read_text())
            assert executor.process.wait(10) == 0
            assert os.path.exists(f"/proc/{daemon}") and not executor.running()
        assert not os.path.exists(f"/proc/{daemon}")

    def test_exits_at_once_with_its_output_in_the_error(self, port):
        with pytest.raises(ProcessExitedWithError) as caught:
            TCPExecutor(["sh", "-c", "echo bind: no such luck; exit 7"], "127.0.0.1", port, timeout=20).start()
        assert caught.value.exit_code == 7 and "bind: no such luck" in str(caught.value)

    def test_exits_with_0_before_it_is_ready(self, port):
        with pytest.raises(ExitedBeforeReady, match="refuse"):
            TCPExecutor("true", "127.0.0.1", port, timeout=0.5).start()

    def test_a_banner_in_either_stream(self):
        for redirection in ("", " >&2"):
            executor = OutputExecutor(["sh", "-c", f"(echo one; echo ready 12; echo rest){redirection}; sleep 1000"],
                                      r"ready \d+", timeout=20, stderr=subprocess.PIPE)
            with executor:
                stream = executor.err_output() if redirection else executor.output()
                assert stream.readline() == "rest\n"

    def test_a_banner_without_an_end_of_line(self):
        with OutputExecutor(["sh", "-c", "printf 'login: '; sleep 1000"], "login: $", timeout=20):
            pass

    def test_a_banner_that_never_comes(self):
        with pytest.raises(ExitedBeforeReady, match="never"):
            OutputExecutor(["echo", "something"], "never", timeout=20).start()
        with pytest.raises(ProcessExitedWithError, match="something"):
            OutputExecutor(["sh", "-c", "echo something; exit 3"], "never", timeout=20).start()
        with pytest.raises(TimeoutExpired, match="something"):
            OutputExecutor(["sh", "-c", "echo something; sleep 1000"], "never", timeout=0.3).start()
        with pytest.raises(TimeoutExpired, match="written 'never'; its standard error is not read: give stderr=PIPE"):
            OutputExecutor(["sleep", "1000"], "never", timeout=0.1).start()

    def test_flags_of_a_banner(self):
        import re

        with OutputExecutor(["sh", "-c", "echo READY; sleep 1000"], re.compile("ready", re.IGNORECASE), timeout=20):
            pass

    def test_a_check_of_ones_own(self, tmp_path):
        class Ours(Executor):
            looks = 0

            def pre_start_check(self):
                return False

            def after_start_check(self):
                self.looks += 1
                return self.looks == 5

        with Ours(["sleep", "1000"], timeout=20) as executor:
            assert executor.looks == 5

    def test_a_check_that_raises_leaves_nothing(self):
        class Ours(Executor):
            def pre_start_check(self):
                return False

            def after_start_check(self):
                raise LookupError("ours")

        executor = Ours(["sleep", "1000"], timeout=20)
        with pytest.raises(LookupError, match="ours"):
            executor.start()
        assert executor.process is None

    def test_ten_thousand_probes_leave_no_descriptor(self, port):
        import gc

        executor = TCPExecutor("true", "127.0.0.1", port)
        with listening_socket() as listener:
            accepting = TCPExecutor("true", "127.0.0.1", listener.getsockname()[1])
            gc.disable()
            try:
                before = len(os.listdir("/proc/self/fd"))
                for _ in range(100):
                    for _ in range(99):
                        assert not executor.after_start_check()
                    assert accepting.after_start_check()
                    listener.accept()[0].close()
                assert len(os.listdir("/proc/self/fd")) == before
            finally:
                gc.enable()


class TestOutput:
    def test_a_flood_does_not_stop_the_command(self):
        executor = SimpleExecutor(["sh", "-c", "yes | head -c 200000000; echo; echo end"], kept_output=100_000).start()
        assert executor.process.wait(60) == 0
        executor.stop()
        assert executor.tail(1) == ["end"]
        assert len(executor.output().read()) <= 100_000

    def test_a_log_gets_every_line(self, caplog):
        caplog.set_level(logging.INFO, logger="ours")
        with SimpleExecutor(["sh", "-c", "echo a; echo b"], log=logging.getLogger("ours")) as executor:
            executor.process.wait(10)
            assert executor.output().read() == "a\nb\n"
        while any(thread.name.startswith("tee") for thread in threading.enumerate()):
            weft.yield_now()
        assert [record.getMessage() for record in caplog.records] == ["a", "b"]

    def test_a_log_says_what_it_missed(self):
        lines, go = [], threading.Event()

        def slow(line):
            go.wait(30)
            lines.append(line)

        with SimpleExecutor(["sh", "-c", "echo first; sleep 0.2; yes 123456789 | head -n 100000; echo last"], log=slow,
                            kept_output=20_000) as executor:
            executor.process.wait(30)
            while executor.tail(1) != ["last"]:
                weft.sleep(0.01)
            go.set()
        notes = [line for line in lines if line.endswith("bytes came faster than they were read)")]
        lost = sum(int(line[1:].split()[0]) for line in notes)
        rest = [line for line in lines if line not in notes]
        assert notes and rest[-1] == "last"
        assert lost + sum(len(line) + 1 for line in rest) == len("first\n") + 1_000_000 + len("last\n")

    def test_a_file_gets_it_all(self, tmp_path, until):
        with SimpleExecutor(["sh", "-c", "echo a; echo b >&2"], stderr=subprocess.PIPE, log=tmp_path / "log") as executor:
            executor.process.wait(10)
        until(lambda: sorted((tmp_path / "log").read_text().splitlines()) == ["a", "b"])
        until(lambda: not any(thread.name.startswith("tee") for thread in threading.enumerate()))

    def test_progress_is_told_after_a_second(self, capfd, port):
        with pytest.raises(TimeoutExpired):
            TCPExecutor(["sleep", "1000"], "127.0.0.1", port, timeout=1.5, progress=True).start()
        line, = capfd.readouterr().err.splitlines()
        assert line.startswith("waiting for sleep 1000: 1 s: ") and "refuse" in line


class TestWithFibers:
    @pytest.mark.parametrize("text", [False, True])
    def test_one_fiber_reads_and_the_others_are_told(self, text):
        def read():
            process = Process(["sh", "-c", "read line; echo one; echo two; read line"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=text)
            reader = weft.spawn(process.stdout.readline)
            weft.yield_now()
            for call in (process.stdout.readline, process.stdout.read, process.stdout.close):
                with pytest.raises(RuntimeError, match="another fiber or thread is reading"):
                    weft.spawn(call).result()
            process.stdin.write("go\n" if text else b"go\n")
            process.stdin.flush()
            lines = [reader.result(), process.stdout.readline()]
            process.kill()
            process.wait()
            process.stdout.close()
            return lines

        assert weft.spawn(read).result() == (["one\n", "two\n"] if text else [b"one\n", b"two\n"])

    def test_a_reader_that_was_interrupted_leaves_the_stream_to_others(self):
        process = Process(["sleep", "1000"], stdout=subprocess.PIPE, text=False)
        for _ in range(50):
            reader = weft.spawn(process.stdout.readline)
            weft.yield_now()
            reader.cancel()
            with pytest.raises(weft.Cancelled):
                reader.result()
        process.kill()
        assert weft.spawn(process.stdout.readline).result() == b""

    def test_many_at_once_on_one_thread(self, run, tmp_path):
        def start_all():
            def one(number):
                path = str(tmp_path / str(number))
                executor = PidExecutor(["sh", "-c", f"sleep 0.5; touch {path}; sleep 1000"], path, timeout=60)
                with executor:
                    return executor.running()

            return list(weft.map(one, range(40), concurrency=40))

        began = time.monotonic()
        assert run(start_all) == [True] * 40
        assert time.monotonic() - began < 15

    def test_a_thousand_wait_at_once_on_one_thread(self, tmp_path):
        executors = [PidExecutor(["sleep", "1000"], str(tmp_path / str(number)), timeout=100) for number in range(1000)]

        def body():
            before = len(os.listdir("/proc/self/task"))
            with weft.TaskGroup() as group:
                for executor in executors:
                    group.spawn(executor.start)
                while not all(executor.process for executor in executors):
                    weft.sleep(0.05)
                threads = len(os.listdir("/proc/self/task")) - before
                assert threads < 50, "the waits have threads of their own"
                for executor in executors:
                    open(executor.filename, "w").close()
            assert all(executor.running() for executor in executors)
            with weft.TaskGroup() as group:
                for executor in executors:
                    group.spawn(executor.stop)

        weft.spawn(body).result()

    def test_cancelling_a_start_leaves_nothing(self, until):
        executor = TCPExecutor(["sleep", "1000"], "127.0.0.1", 1, timeout=60)
        fiber = weft.spawn(executor.start)
        until(lambda: executor.process is not None)
        fiber.cancel()
        with pytest.raises(weft.Cancelled):
            fiber.result()
        assert executor.process is None

    def test_a_deadline_around_a_start(self, run):
        def start():
            with pytest.raises(weft.Timeout), weft.timeout(0.3):
                TCPExecutor(["sleep", "1000"], "127.0.0.1", 1, timeout=60).start()
            return True

        assert run(start)

    def test_interrupting_a_start_leaves_nothing(self, run_program):
        done = run_program("""
            import _thread, os, threading
            from weft.process import TCPExecutor
            executor = TCPExecutor(["sleep", "1000"], "127.0.0.1", 1, timeout=60)
            def interrupt():
                while executor.process is None: pass
                print(executor.process.pid, flush=True)
                os.kill(os.getpid(), 2)
            threading.Thread(target=interrupt).start()
            try:
                executor.start()
            except KeyboardInterrupt:
                print(executor.process)
        """)
        pid, state = done.stdout.split()
        assert state == "None" and not os.path.exists(f"/proc/{pid}"), done.stderr

    def test_a_port_is_seen_soon_and_the_end_of_the_command_at_once(self, port):
        server = python("import socket, sys, time; time.sleep(1.05); s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); "
                        "print(time.monotonic(), flush=True); time.sleep(1000)", port)
        with TCPExecutor(server, "127.0.0.1", port, timeout=30) as executor:
            assert time.monotonic() - float(executor.output().readline()) < 0.6
        began = time.monotonic()
        with pytest.raises(ProcessExitedWithError):
            TCPExecutor(["sh", "-c", "sleep 1.05; exit 3"], "127.0.0.1", port, timeout=30).start()
        assert time.monotonic() - began < 1.65

    def test_what_else_is_waited_for_is_seen_as_soon(self, port):
        class Own(TCPExecutor):
            def after_start_check(self):
                return time.monotonic() > began + 0.3

        for make in (TCPExecutor, Own):
            executor = make(["sleep", "1000"], "127.0.0.1", port, timeout=30)
            began = time.monotonic()
            if make is Own:
                executor.start()
            else:
                SimpleExecutor.start(executor)
                executor.wait_for(lambda: time.monotonic() > began + 0.3)
            assert time.monotonic() - began < 0.8  # not at the next whole second
            executor.kill()

    def test_a_fork_cannot_wait_for_its_parents_command(self, port, run_program):
        done = run_program("""
            import os, sys
            from weft.process import SimpleExecutor, TCPExecutor
            executor = TCPExecutor(["sleep", "1000"], "127.0.0.1", int(sys.argv[1]), timeout=30)
            SimpleExecutor.start(executor)
            if os.fork() == 0:
                try:
                    executor.start()
                except ChildProcessError as error:
                    print(error, flush=True)
                os._exit(0)
            os.wait()
            executor.kill()
        """, str(port))
        assert done.returncode == 0 and "No child processes" in done.stdout, done

    def test_waiting_costs_no_time_of_the_processor(self):
        executor = TCPExecutor(["sleep", "1000"], "127.0.0.1", 1, timeout=3)
        before = time.process_time()
        with pytest.raises(TimeoutExpired):
            executor.start()
        assert time.process_time() - before < 0.5  # a busy wait takes all three seconds


def test_the_interpreter_does_not_hang_on_an_executor_in_a_cycle(run_program):
    done = run_program("""
        from weft.process import SimpleExecutor
        executor = SimpleExecutor(["sleep", "1000"]).start()
        executor.itself = executor
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
