"""Pytest fixtures for running programs under `weft run` and reading what it counted."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ("io_uring", "epoll")


def weft_program():
    """The weft under test. It has to exist: a test that needs it must not pass, or be skipped, without it."""
    path = Path(os.environ.get("WEFT_PROGRAM", ROOT / "build" / "cli" / "weft"))
    if not os.access(path, os.X_OK):
        pytest.fail(f"no weft at {path}: run `make build`", pytrace=False)
    return str(path)


def clean_environment(**changes):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WEFT_", "LD_"))}
    return {**kept, **changes}


def os_threads(pid):
    """The number of OS threads of a process, without the kernel's own io_uring workers; 0 once it is gone."""
    count = 0
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            try:
                comm = Path(f"/proc/{pid}/task/{task}/comm").read_bytes()
            except OSError:
                continue
            count += not comm.startswith(b"iou-")
    except OSError:
        pass
    return count


def wait_until(condition, seconds=30, what="condition"):
    """Polls `condition` until it is true and returns its value; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(0.02)


@dataclass
class Program:
    """A started Python program; `weft` tells whether it runs under weft."""

    process: subprocess.Popen
    stats_file: Path | None

    @property
    def pid(self):
        return self.process.pid

    def stats(self):
        """What --stats-file holds; call after the program has ended."""
        assert self.stats_file, "the program was started without weft"
        return json.loads(self.stats_file.read_text())

    def finish(self, seconds=60):
        """Waits for the end; returns (exit code, standard output, standard error)."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.fixture
def start_program(tmp_path):
    """start_program(script, *arguments, backend=None, options=()) -> Program, killed when the test ends."""
    started = []

    def start(script, *arguments, backend=None, options=(), env=None):
        command, stats_file = [sys.executable, "-u", str(script), *map(str, arguments)], None
        if backend is not None:
            stats_file = tmp_path / f"stats-{len(started)}.json"
            command = [weft_program(), "run", f"--backend={backend}", f"--stats-file={stats_file}", *options, *command]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=clean_environment(**(env or {})))
        started.append(process)
        return Program(process, stats_file)

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
