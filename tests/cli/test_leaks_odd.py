"""weft leaks: what goes wrong around a check: signals, closed streams, full disks, odd names and texts."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import WEFT, clean_environment, wait_until
from leaks_support import functions, leaks, native, only  # noqa: F401

MORE = """
import os, time, weft

made = []

async def coroutine():
    made.append(bytearray(1000))

def generator():
    yield made.append(bytearray(1000))

def odd():
    raise ValueError("bad \\udcff name")

def leave_oddly_named_file():
    open(os.path.join(os.fsencode(os.environ["TMPDIR"]), b"odd-\\xff-%d" % time.monotonic_ns()), "w").close()

def crash_behind_a_child():
    if os.fork() == 0:
        time.sleep(100)
        os._exit(0)
    os.kill(os.getpid(), 9)

def quick():
    time.sleep(0.002)
"""


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    path = tmp_path_factory.mktemp("more") / "more.py"
    path.write_text(MORE)
    (path.parent / "fibers.py").write_text("import weft, time\nweft.patch()\ndef sleep():\n    time.sleep(0.001)\n")
    return path


def test_the_program_is_found_by_the_search_path(functions):
    env = clean_environment(PATH=f"{WEFT.parent}:{os.environ['PATH']}")
    done = subprocess.run(["weft", "leaks", "--python", sys.executable, f"{functions}:good"], capture_output=True, text=True, timeout=60,
                          env=env, cwd="/")
    assert done.returncode == 0, done


@pytest.mark.parametrize("function, what", [("coroutine", "async function"), ("generator", "generator function")])
def test_a_function_whose_call_runs_nothing_is_refused(leaks, more, function, what):
    code, result = only(leaks(f"{more}:{function}"))
    assert code == 125 and what in result["text"]


def test_fibers_have_the_limit_too(leaks, more):
    code, result = only(leaks(f"{more.parent}/fibers.py:sleep", "--time-limit", "1"))
    assert (code, result["verdict"]) == (0, "clean"), result["text"]


def test_a_limit_below_a_second(leaks, more):
    assert only(leaks(f"{more}:quick", "--call-limit", "0.3", "--time-limit", "1"))[0] == 0


def test_texts_that_are_no_unicode(leaks, more):
    code, result = only(leaks(f"{more}:odd"))
    assert (code, result["what"]) == (125, "ValueError") and "udcff" in result["text"]
    code, result = only(leaks(f"{more}:leave_oddly_named_file"))
    assert (code, result["what"]) == (1, "UnclosedFileError") and "odd-" in result["text"]
    code, result = only(leaks(f"{more}:quick", "--args", b"\xff".decode(errors="surrogateescape")))
    assert code == 125 and "UTF-8" in result["text"]


def test_a_crash_is_told_at_once_though_a_child_lives(leaks, more):
    code, [crashed, other] = leaks(f"{more}:crash_behind_a_child", f"{more}:quick", "--time-limit", "0.5")
    assert code == 125 and "SIGKILL" in crashed["text"] and crashed["seconds"] < 20
    assert other["verdict"] == "clean"


def test_a_signal_without_a_name(leaks):
    code, result = only(leaks("--", "sh", "-c", "kill -40 $$"))
    assert code == 125 and "signal 40" in result["text"]
    assert result["target"] == "sh -c 'kill -40 $$'"


def test_few_descriptors(functions):
    command = f"ulimit -n 256; exec '{WEFT}' leaks --python '{sys.executable}' '{functions}:good'"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, env=clean_environment())
    assert done.returncode == 0, done


@pytest.mark.parametrize("number", [2, 15])
def test_a_signal_ends_what_a_command_started(native, tmp_path, number):
    mark = str(tmp_path / "mark")
    process = subprocess.Popen([WEFT, "leaks", "--", "sh", "-c", f"sleep 987 & touch {mark}; wait"],
                               env=clean_environment(TMPDIR=str(tmp_path), LEAKS_MARK=mark), preexec_fn=_default_signals)
    wait_until(lambda: os.path.exists(mark))
    process.send_signal(number)
    assert process.wait(20) == -number
    assert not [pid for pid in Path("/proc").iterdir() if pid.name.isdigit() and _has(pid, f"LEAKS_MARK={mark}")]


def _default_signals():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _has(process, variable):
    try:
        return variable.encode() in (process / "environ").read_bytes()
    except OSError:
        return False


def test_what_a_command_writes_is_thrown_away(weft):
    done = weft("leaks", "--", "sh", "-c", "echo said; echo said >&2")
    assert done.returncode == 0 and "said" not in done.stderr + done.stdout.replace("echo said", "")
    assert "said" in weft("leaks", "--show-output", "--", "sh", "-c", "echo said >&2").stderr


def test_closed_streams(tmp_path):
    report = tmp_path / "report.json"
    command = f"exec '{WEFT}' leaks --json '{report}' -- no-such-command-at-all <&- >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, env=clean_environment())
    assert done.returncode == 125
    assert "cannot be executed" in json.loads(report.read_text())["results"][0]["text"]


def test_a_full_disk_is_told(functions):
    for option in ([], ["--json", "-"]):
        command = [str(WEFT), "leaks", *option, "--python", sys.executable, f"{functions}:good"]
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, env=clean_environment())
        assert done.returncode == 125 and "cannot be written" in done.stderr


def test_two_reports_need_two_places(weft):
    done = weft("leaks", "--json", "-", "--junit", "-", "m:f")
    assert done.returncode == 2 and "cannot both be written" in done.stderr


def test_processes_of_constructors_have_nothing_of_ours(leaks, tmp_path):
    source = ("#include <stdlib.h>\n__attribute__((constructor)) static void early(void) { if (system(\"test -z \\\"$LD_PRELOAD\\\"\")) abort(); }\n"
              "void good(void) {}\nint main(void) { return 0; }\n")
    folder = tmp_path / "lib.so.folder"
    folder.mkdir()
    subprocess.run(["cc", "-x", "c", "-", "-rdynamic", "-o", folder / "program"], input=source, text=True, check=True)
    code, result = only(leaks(f"{folder}/program:good"))
    assert (code, result["verdict"]) == (0, "clean"), result["text"]


def test_drawings_have_names_of_their_own(weft, native, tmp_path):
    weft("leaks", "--svg", tmp_path / "a", "./program:good", "./program:good", cwd=native)
    assert sorted(os.listdir(tmp_path / "a")) == ["program-good-2.svg", "program-good.svg"]
