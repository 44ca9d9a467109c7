"""`weft exec` with one service: readiness, exit codes, signals, standard streams, and what is left behind."""

import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import termios

import pytest

from cli_support import WEFT, clean_environment, wait_until
from exec_support import SERVER, alive, free_port, marked, nothing_is_left, python, server  # noqa: F401


def test_the_command_runs_once_the_port_is_open_and_its_code_is_returned(weft, port):
    client = f"import socket; socket.create_connection(('127.0.0.1', {port})).close(); raise SystemExit(7)"
    done = weft("exec", "--wait-port", port, *server(port), "--", *python(client))
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    assert not accepts(port)


READY = "weft exec: ready; there is no command, so it runs until it ends, or Ctrl-C is pressed\n"


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    except ConnectionRefusedError:
        return False


@pytest.mark.parametrize("place", ["{}", "127.0.0.1:{}", "localhost:{}"])
def test_a_port_may_have_a_host(weft, port, place):
    assert weft("exec", "--wait-port", place.format(port), *server(port), "--", "true").returncode == 0


def test_wait_output(weft):
    service = python("import time; print('one'); print('listening on 5', flush=True); time.sleep(1000)")
    assert weft("exec", "--wait-output", r"listening on \d", *service, "--", "true").returncode == 0


def test_wait_file_and_cwd(weft, tmp_path):
    service = python("import time; open('made', 'w'); time.sleep(1000)")
    done = weft("exec", "--wait-file", tmp_path / "made", "--cwd", tmp_path, *service, "--", "true")
    assert done.returncode == 0


def test_wait_socket(weft, tmp_path):
    path = tmp_path / "socket"
    service = python("import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); "
                     "time.sleep(1000)", path)
    assert weft("exec", "--wait-socket", path, *service, "--", "true").returncode == 0


HTTP = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/ok")
        else:
            good = self.path == "/ok" and (len(sys.argv) < 3 or self.headers.get("X-Token") == sys.argv[2])
            self.send_response(200 if good else 404)
        self.end_headers()
    do_GET = do_OPTIONS = answer
    def log_message(self, *arguments):
        print(self.command, flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.mark.parametrize("path, options, arguments", [
    ("ok", [], []),
    ("other", ["--status", "404"], []),
    ("ok", ["--header", "X-Token: secret", "--insecure"], ["secret"]),
    ("moved", ["--follow"], []),
    ("ok", ["--method", "OPTIONS", "--wait-output", "OPTIONS"], []),
], ids=str)
def test_wait_http(weft, port, path, options, arguments):
    done = weft("exec", "--wait-http", f"http://127.0.0.1:{port}/{path}", *options,
                *python(HTTP, port, *arguments, with_site=True), "--", "true")
    assert (done.returncode, done.stderr) == (0, "")


HTTPS = """
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
class Server(http.server.HTTPServer):
    def handle_error(self, *_): pass  # a handshake that the other side breaks off
server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(certificate, key) of 127.0.0.1, signed by itself."""
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                    "-subj", "/CN=weft test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key",
                    "-out", folder / "certificate"], check=True, capture_output=True)
    return folder / "certificate", folder / "key"


def test_wait_http_over_tls(weft, port, certificate):
    def run(*options):
        return weft("exec", "--wait-http", f"https://127.0.0.1:{port}/", *options,
                    *python(HTTPS, port, *certificate, with_site=True), "--", "true")

    for options in (["--insecure"], ["--ca-file", certificate[0]]):
        done = run(*options)
        assert (done.returncode, done.stderr) == (0, "")
    done = run("--timeout", "2")
    assert done.returncode == 125 and "certificate" in done.stderr
    done = run("--timeout", "2", "--ca-file", "/no/such/file")
    assert done.returncode == 125 and "/no/such/file" in done.stderr


def test_several_conditions_are_all_needed(weft, port):
    done = weft("exec", "--wait-port", port, "--wait-output", "never", "--timeout", "0.5", *server(port), "--", "true")
    assert done.returncode == 125
    assert "output that matches /never/: none so far" in done.stderr


def test_any_of_several_is_enough(weft, port):
    done = weft("exec", "--wait-port", port, "--wait-output", "never", "--any", *server(port), "--", "true")
    assert done.returncode == 0


def test_env_is_the_services(weft):
    service = python("import os, time; print('<' + os.environ['A'] + os.environ['B'] + '>', flush=True); "
                     "time.sleep(1000)")
    done = weft("exec", "--env", "A=1=2", "--env", "B=", "--wait-output", "<1=2>", *service, "--", "sh", "-c",
                "echo ${A-none}")
    assert (done.returncode, done.stdout) == (0, "none\n")


def test_what_is_not_ready_in_time(weft, port):
    service = python("import time; print('still loading', flush=True); time.sleep(1000)")
    done = weft("exec", "--wait-port", port, "--wait-output", "loading", "--timeout", "0.7", *service, "--", "echo",
                "x")
    assert (done.returncode, done.stdout) == (125, "")
    assert re.match(r"weft exec: \S+ is not ready: .* was not ready after 0.7 s: TCP 127.0.0.1:\d+: "
                    ".*refuses connections", done.stderr)
    assert "Its last output:\nstill loading" in done.stderr
    assert "Options" not in done.stderr


def test_a_service_that_exits_at_once(weft, port):
    done = weft("exec", "--wait-port", port, *python("print('bad config'); raise SystemExit(9)"), "--", "true")
    assert done.returncode == 125
    assert "exited with 9 before it was ready" in done.stderr
    assert "bad config" in done.stderr


def test_a_port_that_is_taken(weft):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = weft("exec", "--wait-port", taken.getsockname()[1], "sleep", "1000", "--", "true")
    assert done.returncode == 125
    assert "was not started: something accepts connections" in done.stderr


def test_a_service_that_is_not_there(weft):
    done = weft("exec", "/no/such/server", "--", "true")
    assert done.returncode == 125
    assert "No such file" in done.stderr


def test_a_command_that_is_not_there_or_cannot_be_executed(weft, tmp_path):
    done = weft("exec", "sleep", "1000", "--", "no-such-command")
    assert (done.returncode, "not found" in done.stderr) == (127, True)
    (tmp_path / "text").write_text("")
    done = weft("exec", "sleep", "1000", "--", tmp_path / "text")
    assert (done.returncode, "Permission denied" in done.stderr) == (126, True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_command_that_a_signal_ends(weft, number):
    assert weft("exec", "sleep", "1000", "--", "sh", "-c", f"kill -{int(number)} $$").returncode == 128 + number


@pytest.mark.parametrize("arguments", [
    ["exec"],
    ["exec", "--"],
    ["exec", "--wait-port", "8000", "--", "--", "true"],
    ["exec", "server", "--"],
    ["exec", "--wait-port", "0", "server"],
    ["exec", "--wait-port", "http", "server"],
    ["exec", "--wait-http", "ftp://x", "server"],
    ["exec", "--wait-output", "(", "server"],
    ["exec", "--timeout", "-1", "server"],
    ["exec", "--timeout", "soon", "server"],
    ["exec", "--grace", "1s", "server"],
    ["exec", "--stop-signal", "FOO", "server"],
    ["exec", "--env", "=x", "server"],
    ["exec", "--header", "x", "server"],
    ["exec", "--wait-port", "80", "--status", "200", "server"],
    ["exec", "--insecure", "server"],
    ["exec", "--any", "server"],
    ["exec", "--only", "x", "server"],
    ["exec", "--check", "server"],
    ["exec", "--bogus", "server"],
    ["exec", "--file", "x.toml", "--wait-port", "80"],
], ids=" ".join)
def test_wrong_usage(weft, arguments):
    done = weft(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 2
    assert "Usage: weft exec" in done.stderr


def test_waits_behind_the_service_are_warned_of(weft):
    service = ["sh", "-c", "exec sleep 1000", "--wait-port=80"]
    done = weft("exec", *service, "--", "echo", "--wait-port", "80")
    assert done.returncode == 0
    assert re.fullmatch(r"weft exec: --wait-port stands behind sh, so it is that one's; .*\n", done.stderr)
    assert weft("exec", "--quiet", *service, "--", "true").stderr == ""


def test_words_for_a_shell_are_named(weft):
    done = weft("exec", "cd", "/", "--", "true")
    assert done.returncode == 125
    assert "nor in a folder of PATH. If 'cd' was meant for a shell: " in done.stderr


def test_help_lists_every_option_and_weft_help_lists_exec(weft):
    text = weft("exec", "--help").stdout
    for option in ("--wait-port", "--wait-http", "--wait-output", "--wait-file", "--wait-socket", "--status",
                   "--method", "--header", "--insecure", "--ca-file", "--follow", "--any", "--timeout", "--grace",
                   "--stop-signal",
                   "--env", "--cwd", "--quiet", "--show-output", "--log", "--file", "--only", "--check", "Examples:"):
        assert option in text
    assert weft("help", "exec").stdout == text
    assert weft("help").stdout == weft("--help").stdout
    assert re.search(r"^  exec +Run", weft("help").stdout, re.MULTILINE)


def test_standard_streams_are_the_commands(weft):
    service = python("import sys, time; print(repr(sys.stdin.read()), flush=True); print('noise', file=sys.stderr, "
                     "flush=True); time.sleep(1000)")
    data = "".join(f"{line}\n" for line in range(20000))
    done = weft("exec", "--wait-output", "''", *service, "--", "sh", "-c", "cat; echo error >&2", input=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, "error\n")


def test_the_command_has_no_descriptors_or_signals_of_wefts(weft):
    look = ("import os, signal; print(sorted(map(int, os.listdir('/proc/self/fd')))[:4], "
            "signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getsignal(signal.SIGCHLD))")
    done = weft("exec", "sleep", "1000", "--", *python(look))
    assert done.stdout == weft("exec", "sleep", "1000", "--", *python(look), close_fds=True).stdout
    assert done.stdout.startswith("[0, 1, 2, 3] set() ")


def test_a_service_that_ends_meanwhile_is_told_once_and_the_command_goes_on(weft, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    service = python("import sys; open(sys.argv[1]).read(); print('dying words', flush=True); sys.exit(5)", fifo)
    # The command looks for weft exec's message in the file that is its standard error.
    command = ("import sys, time, os\nopen(sys.argv[1], 'w').close()\n"
               "while b'dying words' not in open(sys.argv[2], 'rb').read(): time.sleep(0.01)\nraise SystemExit(3)")
    errors = tmp_path / "errors"
    with open(errors, "wb") as stream:
        done = subprocess.run([WEFT, "exec", *service, "--", *python(command, fifo, errors)], stderr=stream,
                              timeout=60, env=clean_environment())
    assert done.returncode == 3
    text = errors.read_text()
    assert text.count("exited with 5 while the command was to run") == 1
    assert text.count("dying words") == 1


def test_without_a_command_it_says_ready_and_returns_the_services_code(weft, port):
    done = weft("exec", *python("raise SystemExit(6)"))
    assert (done.returncode, done.stderr) == (6, READY)
    assert weft("exec", "--quiet", "sh", "-c", "kill -9 $$").returncode == 137


def test_output_is_shown_with_names_and_logged(weft, tmp_path):
    service = ["sh", "-c", "echo one; echo two >&2; printf three; exec sleep 1000"]
    done = weft("exec", "--show-output", "--log", tmp_path / "log", "--wait-output", "three", *service, "--", "true")
    assert done.returncode == 0
    assert done.stderr == "sh | one\nsh | two\nsh | three\n" == (tmp_path / "log").read_text()


def test_a_log_that_is_full_is_told_of_once(weft):
    service = ["sh", "-c", "echo one; sleep 0.1; echo two; exec sleep 1000"]
    done = weft("exec", "--log", "/dev/full", "--wait-output", "two", *service, "--", "true")
    assert (done.returncode, done.stderr) == (0, "weft exec: the log is given up: /dev/full: No space left on device\n")


def test_a_log_that_cannot_be_written(weft, tmp_path):
    done = weft("exec", "--log", tmp_path / "no" / "log", "sleep", "1000", "--", "true")
    assert done.returncode == 125
    assert "No such file" in done.stderr


@pytest.mark.parametrize("options", [[], ["--show-output"]], ids=str)
def test_much_output_of_a_service_holds_nothing_up(weft, options):
    service = python("import sys, time\nfor i in range(50): sys.stdout.write(('x' * 99 + '\\n') * 10486)\n"
                     "print('all written', flush=True); time.sleep(1000)")
    done = weft("exec", *options, "--wait-output", "all written", *service, "--", "echo", "done")
    assert (done.returncode, done.stdout) == (0, "done\n")
    if options:
        assert "| all written\n" in done.stderr


def test_a_service_that_ignores_the_stop_signal_is_killed_after_the_grace(weft):
    service = python("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\n"
                     "while True: time.sleep(1000)")
    done = weft("exec", "--wait-output", "up", "--grace", "0.2", *service, "--", "true")
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["INT", "SIGINT", "2"])
def test_stop_signal(weft, tmp_path, name):
    service = python("import signal, sys, time\n"
                     "def end(*_): open(sys.argv[1], 'w'); sys.exit()\n"
                     "signal.signal(signal.SIGINT, end); print('up', flush=True)\n"
                     "while True: time.sleep(1000)", tmp_path / "interrupted")
    done = weft("exec", "--wait-output", "up", "--stop-signal", name, *service, "--", "true")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "interrupted").exists()


TREE = ["sh", "-c", "setsid sh -c 'echo up; exec sleep 1000' & sleep 1000"]
NAMES_ITSELF = ["sh", "-c", "echo running; exec sleep 1000"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL])
def test_a_signal_goes_to_the_command_and_nothing_is_left(start, number):
    mark = marked()
    process = start("exec", "--wait-output", "up", *TREE, "--", *NAMES_ITSELF, env=mark)
    assert process.first_line == "running\n"
    assert len(alive(mark)) >= 4
    process.send_signal(number)
    assert process.wait(30) == (-number if number == signal.SIGKILL else 128 + number)
    wait_until(lambda: not alive(mark))


def test_the_command_may_take_a_signal_its_own_way(start):
    command = python("import signal, sys\nsignal.signal(signal.SIGINT, lambda *_: sys.exit(4))\n"
                     "print('running', flush=True)\nwhile True: signal.pause()")
    process = start("exec", *TREE, "--", *command)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 4


def test_a_command_that_ignores_sigterm_is_killed_after_the_grace(start):
    command = python("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                     "print('running', flush=True)\nwhile True: signal.pause()")
    process = start("exec", "--grace", "0.2", "sleep", "1000", "--", *command)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 137


def test_a_signal_while_a_service_starts(start_errors):
    mark = marked()
    process = start_errors("exec", "--wait-output", "never", "--show-output", *TREE, "--", "true", env=mark)
    assert process.first_line == "sh | up\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert not alive(mark)


def test_a_signal_ends_a_service_without_a_command(start_errors):
    mark = marked()
    process = start_errors("exec", "--wait-output", "up", *TREE, env=mark)
    assert process.first_line == READY
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 143  # by what stops services
    assert not alive(mark)


def test_a_second_sigint_skips_the_grace(start_errors):
    service = python("import os, signal, time\nsignal.signal(signal.SIGTERM, lambda *_: os.write(1, b'I stay\\n'))\n"
                     "print('up', flush=True)\nwhile True: time.sleep(1000)")
    process = start_errors("exec", "--grace", "1000", "--show-output", "--wait-output", "up", *service)
    # Who reads the output and who says "ready" are two.
    assert READY in (process.first_line, process.stderr.readline())
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().endswith("| I stay\n")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 137


def state(pid):
    with open(f"/proc/{pid}/stat") as stream:
        return stream.read().rpartition(")")[2].split()[0]


def test_stop_and_continue_reach_the_command_and_weft_exec(start):
    # Not SIGTSTP: in a group that no shell looks after the kernel stops nobody by that.
    process = start("exec", "sleep", "1000", "--", "sh", "-c", "echo $$; exec sleep 1000")
    command = int(process.first_line)
    os.kill(command, signal.SIGSTOP)
    # A SIGCONT that came before it has stopped itself would be taken back by that.
    wait_until(lambda: state(command) == "T" and state(process.pid) == "T")
    process.send_signal(signal.SIGCONT)
    wait_until(lambda: state(command) == "S" and state(process.pid) == "S")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143


def test_from_a_terminal_the_command_gets_one_sigint_and_progress_is_shown(port, tmp_path):
    leader, follower = os.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    command = python("import signal, sys, time\ncount = 0\n"
                     "def note(*_):\n    global count\n    count += 1\n"
                     "signal.signal(signal.SIGINT, note); signal.signal(signal.SIGTERM, lambda *_: sys.exit(count))\n"
                     "print('running', flush=True)\nwhile not count: signal.pause()\n"
                     "print('got one', flush=True)\nwhile True: signal.pause()")
    service = python("import socket, sys, time\nopen(sys.argv[2]).read()\n" + SERVER, port, tmp_path / "go")
    os.mkfifo(tmp_path / "go")
    login = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen([*python(login), WEFT, "exec", "--wait-port", str(port), *service, "--", *command],
                               stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
                               env=clean_environment())
    os.close(follower)
    seen = b""

    def read_until(text):
        nonlocal seen
        while text not in seen:
            seen += os.read(leader, 4096)

    read_until(b"s: waiting for ")
    read_until(b"refuses")
    (tmp_path / "go").write_text("")
    read_until(b"running")
    os.write(leader, b"\x03")
    read_until(b"got one")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 1
    os.close(leader)


@pytest.mark.parametrize("by_terminal", [True, False], ids=["terminal", "kill"])
def test_sigtstp_stops_command_and_weft_exec(by_terminal):
    """A session leader looks after their group, as a shell does."""
    shell = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    leader, follower = os.openpty()
    process = subprocess.Popen([*python(shell), WEFT, "exec", "sleep", "1000", "--", "sh", "-c",
                                "echo $PPID $$ up; exec sleep 1000"],
                               stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
                               env=clean_environment())
    os.close(follower)
    seen = b""
    while b"up" not in seen:
        seen += os.read(leader, 4096)
    weft, command = map(int, seen.split()[:2])
    if by_terminal:
        os.write(leader, b"\x1a")
    else:
        os.kill(weft, signal.SIGTSTP)
    wait_until(lambda: state(command) == "T" and state(weft) == "T")
    os.kill(weft, signal.SIGCONT)
    wait_until(lambda: state(command) == "S" and state(weft) == "S")
    os.kill(weft, signal.SIGTERM)
    assert process.wait(30) == 143
    os.close(leader)


@pytest.fixture
def start_errors():
    """As start(), but the first line is one of standard error."""
    started = []

    def run(*arguments, env=None):
        process = subprocess.Popen([str(WEFT), *map(str, arguments)], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True, env=clean_environment(**(env or {})))
        started.append(process)
        process.first_line = process.stderr.readline()
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def port():
    return free_port()


