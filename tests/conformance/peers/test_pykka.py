"""Pykka's own tests, unchanged, against weft.actor."""

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest
import suites
from weft_run import BACKENDS, clean_environment, weft_program

PYKKA = suites.Peer("pykka", "4.4.2", "54fcfb9ed5ef92eb98bf9961cfdefbc73ddfbf24060e319d50fde6ec66d00d8a")

TESTS = 152

# What is not promised, by name.
DIFFERENT = {
    "test_null_handler_is_added_to_avoid_warnings": "asks for a handler of the logger \"pykka\"; ours is \"weft.actor\"",
}


def run_suite(command, folder, **environment):
    results = folder / "results.xml"
    done = subprocess.run(
        [*command, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", folder, "-p", "stand_in_for_pykka",
         "-p", "no:cacheprovider", "--timeout=30", f"--junit-xml={results}", "tests"],
        cwd=folder, text=True, capture_output=True, timeout=300, check=False,
        env=clean_environment(PYTHONPATH=f"{Path(__file__).parent}:{folder}", **environment))
    assert results.exists(), done.stdout + done.stderr
    cases = xml.parse(results).getroot().iter("testcase")
    outcomes = {"passed": set(), "failed": set(), "skipped": set()}
    for case in cases:
        ended = {child.tag for child in case}
        outcome = "failed" if ended & {"failure", "error"} else "skipped" if "skipped" in ended else "passed"
        outcomes[outcome].add(f"{case.get('classname')}::{case.get('name')}")
    fibers, natives = map(int, re.search(r"threads started: (\d+) fibers, (\d+) OS threads", done.stderr).groups())
    return outcomes, fibers, natives, done.stdout


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    try:
        tests = suites.fetch(PYKKA)
    except suites.NotRun as reason:
        pytest.skip(f"not run: {reason}")
    # Alone: nothing of the package that it tests is beside it.
    folder = tmp_path_factory.mktemp("pykka")
    shutil.copytree(tests, folder / "tests")
    return folder


def check(outcomes, output):
    assert {name.rpartition("::")[2].partition("[")[0] for name in outcomes["failed"]} == set(DIFFERENT), output
    assert not outcomes["skipped"]
    assert len(outcomes["passed"]) == TESTS - len(DIFFERENT)


def test_on_os_threads(suite):
    outcomes, fibers, natives, output = run_suite([sys.executable], suite)
    check(outcomes, output)
    assert fibers == 0 and natives > 100


@pytest.mark.parametrize("backend", BACKENDS)
def test_on_fibers(suite, backend):
    outcomes, fibers, natives, output = run_suite(
        [weft_program(), "run", f"--backend={backend}", sys.executable], suite)
    check(outcomes, output)
    assert natives == 0 and fibers > 100
