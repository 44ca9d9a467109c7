"""The conformance runner must turn red when its suites do not run on fibers."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[1] / "run.py"


@pytest.fixture
def conformance(tmp_path):
    """conformance(*arguments) -> (exit code, output) of the runner on /usr/bin/python3, started elsewhere."""

    def conformance(*arguments):
        done = subprocess.run([sys.executable, RUN, "--python=/usr/bin/python3", "--logs=logs", *arguments],
                              cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=250)
        return done.returncode, done.stdout

    return conformance


@pytest.mark.parametrize("suite", ["test_thread", "test_queue", "test_select"])
@pytest.mark.parametrize("backend", ["io_uring", "epoll"])
def test_without_routing_it_is_red(conformance, suite, backend):
    code, output = conformance(f"--suite={suite}", f"--backend={backend}", "--routing=off")
    assert code == 1, output
    assert f"{backend} {suite}: no fiber was created" in output
    assert ", 0 failed, " in output, "the tests themselves pass natively: only the figures give it away"


def test_another_backend_than_asked_for_is_red(conformance, tmp_path):
    impostor = tmp_path / "weft"
    weft = RUN.parents[2] / "build" / "cli" / "weft"
    impostor.write_text(f'#!/bin/sh\nshift\nexec {weft} run "$@" \n'.replace('"$@"', '$(echo "$@" | sed s/=io_uring/=epoll/)'))
    impostor.chmod(0o755)
    code, output = conformance("--suite=test_thread", "--backend=io_uring", f"--weft={impostor}")
    assert code == 1, output
    assert "backend was epoll, not io_uring" in output


def test_a_folder_for_the_logs_may_be_relative(conformance, tmp_path):
    code, output = conformance("--suite=test_thread", "--backend=epoll")
    assert code == 0, output
    assert list((tmp_path / "logs").iterdir())
