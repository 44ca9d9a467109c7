"""The conformance run as a whole: green on a small suite, red when nothing is routed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from weft_run import BACKENDS, weft_program

RUN = Path(__file__).resolve().parents[1] / "conformance" / "run.py"


def conformance(tmp_path, *options):
    result = tmp_path / "result.json"
    done = subprocess.run([sys.executable, RUN, "--python", "/usr/bin/python3", "--logs", tmp_path / "logs", "--json",
                           result, *options], capture_output=True, text=True, timeout=280, check=False)
    return done, json.loads(result.read_text()) if result.exists() else None


def test_plain_runs_need_no_weft(tmp_path):
    done, result = conformance(tmp_path, "--suite", "test_threading_local", "--plain-only", "--weft", "/nowhere")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith(" passed, 0 failed, 0 skipped")
    assert all(outcome["outcome"] == "passed" for outcome in result[0]["plain"].values())


@pytest.mark.parametrize("backend", BACKENDS)
def test_with_routing_a_small_suite_is_green(tmp_path, backend):
    done, _ = conformance(tmp_path, "--suite", "test_threading_local", "--backend", backend, "--weft", weft_program())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_routing_the_same_suite_is_red(tmp_path, backend):
    done, result = conformance(tmp_path, "--suite", "test_threading_local", "--backend", backend, "--routing=off",
                               "--weft", weft_program())
    assert done.returncode == 1, done.stdout + done.stderr
    [run] = result[0]["weft"]
    assert any("routing was off" in problem for problem in run["problems"])
    assert any("no fiber was created" in problem for problem in run["problems"])
    # The suite itself passes on OS threads: only what was counted tells that nothing was tested.
    assert run["counts"]["failed"] == 0


@pytest.mark.parametrize("options, complaint", [
    (["--suite", "test_nonsense"], "invalid choice"),
    (["--backend", "kqueue"], "invalid choice"),
    (["--jobs", "0"], "--jobs must be at least 1"),
    (["--python", "/nowhere/python3"], "/nowhere/python3"),
    (["--weft", "/nowhere/weft"], "no weft at /nowhere/weft"),
])
def test_wrong_usage_exits_with_2(tmp_path, options, complaint):
    done, _ = conformance(tmp_path, *options)
    assert done.returncode == 2
    assert complaint in done.stderr
