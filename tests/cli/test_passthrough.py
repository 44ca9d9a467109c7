"""The command is the process that was started: its exit code, signals, streams and surroundings are its own."""

import os
import signal
import subprocess

import pytest
from cli_support import WEFT, clean_environment


@pytest.mark.parametrize("code", [0, 1, 2, 3, 125, 127, 255])
def test_exit_codes(weft, python, code):
    assert weft("run", python, "-c", f"import sys; sys.exit({code})").returncode == code


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGINT", "SIGSEGV", "SIGUSR1"])
def test_deaths_by_signal(weft, python, name):
    number = getattr(signal, name)
    script = f"import os, signal; signal.signal({int(number)}, signal.SIG_DFL) if {int(number)} != 9 else 0; " \
             f"os.kill(os.getpid(), {int(number)})"
    assert weft("run", python, "-c", script).returncode == -number


def test_the_process_id_is_the_commands(start, python):
    process = start("run", python, "-uc", "import os; print(os.getpid()); input()")
    assert int(process.first_line) == process.pid


def test_signals_sent_to_weft_reach_the_command(start, python):
    process = start("run", python, "-uc", "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(7)); "
                                          "print('up'); signal.pause()")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 7


def test_standard_streams(weft, python):
    done = weft("run", python, "-c", "import sys; print(sys.stdin.read()[::-1]); print('err', file=sys.stderr)",
                input="abc")
    assert (done.stdout, done.stderr) == ("cba\n", "err\n")


def test_closed_standard_streams_stay_closed(python):
    script = "import os\nfor fd in (0, 1, 2):\n  try: os.fstat(fd)\n  except OSError: continue\n  os._exit(1)\n"
    done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", str(WEFT), "run", python, "-c", script],
                          env=clean_environment(), timeout=60)
    assert done.returncode == 0


def test_no_descriptor_is_left_open(python):
    script = "import os; print(sorted(os.listdir('/proc/self/fd')))"
    plain = subprocess.run([python, "-c", script], capture_output=True, text=True, env=clean_environment())
    under = subprocess.run([str(WEFT), "run", python, "-c", script], capture_output=True, text=True,
                           env=clean_environment())
    assert under.stdout == plain.stdout


def test_working_directory_and_mask(weft, python, tmp_path):
    done = weft("run", python, "-c", "import os; print(os.getcwd(), os.umask(0))", cwd=tmp_path,
                preexec_fn=lambda: os.umask(0o27))
    assert done.stdout == f"{tmp_path} {0o27}\n"


def test_relative_commands_are_found(weft, tmp_path):
    script = tmp_path / "hello"
    script.write_text("#!/bin/sh\necho hello $0\n")
    script.chmod(0o755)
    assert weft("run", "./hello", cwd=tmp_path).stdout == "hello ./hello\n"
    assert weft("run", "hello", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}).stdout == f"hello {script}\n"


def test_the_name_a_command_sees_is_the_one_given(weft):
    assert weft("run", "sh", "-c", "cat /proc/$$/cmdline | tr '\\0' ' '").stdout.startswith("sh -c ")
