"""weft doctor"""

import json
import os
import shutil
import sys

import pytest


def test_text(weft):
    done = weft("doctor")
    assert done.returncode == 0
    for part in ("kernel", "io_uring", "backend", "guard pages", "glibc", "Pythons", "ulimit -n", "vm.max_map_count"):
        assert part in done.stdout


def test_the_first_line_is_the_verdict(weft, python, tmp_path):
    path = f"{os.path.dirname(python)}:{os.environ['PATH']}"
    assert weft("doctor", env={"PATH": path}).stdout.startswith("OK: Weft works here: weft run python3 app.py")
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\necho Python 3.9.2\n")
    old.chmod(0o755)
    first = weft("doctor", env={"PATH": f"{tmp_path}:{path}"}).stdout.splitlines()[0]
    assert first.startswith("WARNING: Weft works here, but python3 is Python 3.9.2, which it does not support: name ")
    assert weft("doctor", python, "app.py").stdout.startswith(f"OK: {python} is Python 3.")
    assert weft("doctor", "sleep", "1").stdout.startswith("WARNING: ")
    assert weft("doctor", "no-such-command").stdout.startswith("ERROR: cannot run under Weft: ")


def test_the_words_of_a_report_are_explained(weft, python):
    head = weft("doctor", python, "app.py").stdout.split("routed:")[0]
    for word in ("fiber is", "carrier is", "routed  ", "left alone  ", "a pin"):
        assert word in head


def test_a_shell_script_on_the_way(weft, tmp_path, python):
    """What it starts cannot be foreseen; what the doctor says to do about it names the interpreter."""
    shim = tmp_path / "python3"
    shim.write_text(f'#!/usr/bin/env sh\nset -e\nexec {python} "$@"\n')
    shim.chmod(0o755)
    text = weft("doctor", shim, "-c", "pass").stdout
    advised = f"weft run --verbose {shim} -c pass"
    assert text.startswith(f"UNKNOWN: {shim} is a sh script")
    assert f"{advised} names it\n" in text
    assert "no Python interpreter" not in text
    assert "routed:" not in text
    assert f", {os.path.realpath(python)}, runs under Weft: " in weft(*advised.split()[1:]).stderr
    assert json.loads(weft("doctor", "--json", shim).stdout)["verdicts"][0]["level"] == "UNKNOWN"


@pytest.mark.parametrize("command", ["env", "timeout", "sh", "gdb"])
def test_a_launcher(weft, command):
    if not shutil.which(command):
        pytest.skip(f"no {command} here")
    text = weft("doctor", command, "x").stdout
    assert text.startswith(f"UNKNOWN: {command} only starts another program. The first Python on the way ")
    assert "routed:" not in text


def test_json(weft):
    done = weft("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert report["backend"]["auto"] in ("io_uring", "epoll")
    assert report["guard_pages"] in ("madvise", "mprotect")
    for limit in report["limits"]:
        assert limit["bites"] == bool(limit["remedy"])


def test_a_low_limit_is_named_with_the_command_that_lifts_it(weft):
    import resource
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    done = weft("doctor", "--json", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)))
    limit = next(limit for limit in json.loads(done.stdout)["limits"] if limit["name"] == "ulimit -n")
    assert limit["bites"]
    assert limit["remedy"].startswith(("ulimit -n ", "as root: ulimit -n "))


def test_every_python_on_the_path_is_listed(weft, python):
    done = weft("doctor", "--json", env={"PATH": f"{os.path.dirname(python)}:{os.environ['PATH']}"})
    found = {entry["path"]: entry for entry in json.loads(done.stdout)["pythons"]}
    entry = found[os.path.realpath(python)]
    version = weft("run", python, "-c", "import platform; print(platform.python_version())").stdout.strip()
    assert entry["version"] == version
    assert entry["supported"]


def test_a_command(weft, python):
    done = weft("doctor", "--json", python, "app.py")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert report["python"] and report["runnable"]
    routed = {call["call"] for entry in report["objects"] for call in entry["routed"]}
    assert {"pthread_create", "recv", "poll", "sem_wait"} <= routed
    libc = next(entry for entry in report["objects"] if "/libc.so" in entry["path"])
    assert libc["untouched"] and not libc["routed"]
    text = weft("doctor", python, "app.py").stdout
    assert "pthread_create" in text


def test_threads_of_libraries_are_left_alone(weft, compile_c):
    program = compile_c("threads", "#include <pthread.h>\nint main(void) { pthread_t t; "
                                   "return pthread_create(&t, 0, (void *(*)(void *))main, 0); }", "-lpthread")
    report = json.loads(weft("doctor", "--json", program).stdout)
    left = {call["call"]: call["reason"] for call in report["objects"][0]["left_alone"]}
    assert "--threads=all" in left["pthread_create"]


def test_a_command_that_cannot_run(weft):
    done = weft("doctor", "no-such-command")
    assert done.returncode == 1
    assert "no-such-command" in done.stdout


@pytest.mark.parametrize("arguments", [["-m", "flask", "--debug", "run"], ["manage.py", "runserver"],
                                       ["-m", "uvicorn", "app:app", "--reload"]], ids=" ".join)
def test_a_reloader_is_named(weft, arguments):
    done = weft("doctor", sys.executable, *arguments)
    assert "WARNING" in done.stdout
    assert "--children" in done.stdout
