"""weft doctor"""

import json
import sys
import os

import pytest


def test_text(weft):
    done = weft("doctor")
    assert done.returncode == 0
    for part in ("kernel", "io_uring", "backend", "guard pages", "glibc", "Pythons", "ulimit -n", "vm.max_map_count"):
        assert part in done.stdout


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
