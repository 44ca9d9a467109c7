"""Where threads become no fibers, the program says so, and why."""

import json
import signal
from pathlib import Path

import pytest

THREADS = """
import threading
threads = [threading.Thread(target=print, args=("ran",)) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
# Lives until it is killed, with a second thread.
LASTING = "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()\nprint('up', flush=True)\n"
OLD = {version: path for version in ("3.8", "3.10")
       for path in sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))}


@pytest.fixture(params=OLD.items(), ids=OLD.keys())
def old(request):
    """(version, path) of a Python that is too old: each that is under ~/.pyenv/versions."""
    return request.param


def test_an_unsupported_python_says_so_once(weft, old):
    version, python = old
    done = weft("run", python, "-c", THREADS)
    assert (done.returncode, done.stdout) == (0, "ran\n" * 3)
    assert done.stderr == f"weft: Python {version} is not supported (3.11 to 3.13): its threads stay OS threads\n"
    assert weft("run", python, "-c", "pass").stderr == ""


def test_the_statistics_of_an_unsupported_python(weft, old):
    version, python = old
    text = weft("run", "--stats", python, "-c", THREADS).stderr
    assert f"fibers          none: Python {version} is not supported" in text
    assert "OS threads      3 native" in text
    assert "no thread was created" not in text


def test_the_doctor_on_an_unsupported_python(weft, old):
    version, python = old
    text = weft("doctor", python, "app.py").stdout
    assert f"WARNING: Python {version} is not supported (3.11 to 3.13): its threads stay OS threads" in text
    assert "become fibers" not in text
    report = json.loads(weft("doctor", "--json", python, "app.py").stdout)
    assert (report["python_version"], report["python_supported"]) == (version, False)


def test_the_doctor_on_a_supported_python(weft, python):
    report = json.loads(weft("doctor", "--json", python, "app.py").stdout)
    assert report["python_version"] in ("3.11", "3.12", "3.13")
    assert report["python_supported"]


def test_the_dump_of_an_unsupported_python(weft, start, old):
    version, python = old
    done = weft("dump", start("run", python, "-c", LASTING).pid)
    assert done.returncode == 1
    assert f"Python {version} is not supported (3.11 to 3.13): its threads stay OS threads" in done.stderr


CAUSES = {"--threads=none": "--threads=none: threads stay OS threads",
          "--routing=off": "routing is off (--routing=off): threads stay OS threads"}


@pytest.mark.parametrize("option, cause", CAUSES.items())
def test_the_statistics_name_the_option(weft, python, option, cause):
    text = weft("run", "--stats", option, python, "-c", THREADS).stderr
    assert f"fibers          none: {cause}\n" in text
    assert "no thread was created" not in text


def test_the_statistics_where_only_others_create_threads(weft, python):
    text = weft("run", "--stats", python, "-c", "pass").stderr
    assert "no thread was created by Python" in text
    assert "--threads=all" in text


@pytest.mark.parametrize("option", CAUSES)
def test_the_dump_names_the_option(weft, start, python, option):
    done = weft("dump", start("run", option, python, "-c", LASTING).pid)
    assert done.returncode == 1
    assert option in done.stderr
    assert "no thread yet" not in done.stderr


@pytest.mark.parametrize("option, cause", CAUSES.items())
def test_a_dump_by_signal_names_the_option(start, python, option, cause):
    process = start("run", option, "--dump-signal=QUIT", python, "-c", LASTING)
    process.send_signal(signal.SIGQUIT)
    assert cause in process.stderr.readline()


def test_the_dump_of_a_program_that_is_no_interpreter(weft, start):
    done = weft("dump", start("run", "sh", "-c", "echo up; exec sleep 1000").pid)
    assert done.returncode == 1
    assert "is no Python interpreter" in done.stderr
    assert "--threads=all" in done.stderr
