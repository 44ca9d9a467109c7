"""Pykka's own tests, unchanged, against weft.actor."""

import shutil

import pytest
import suites
from weft_run import BACKENDS, weft_program

PYKKA = suites.Peer("pykka", "4.4.2", "54fcfb9ed5ef92eb98bf9961cfdefbc73ddfbf24060e319d50fde6ec66d00d8a")

TESTS = 152

# What is not promised, by name.
DIFFERENT = {
    "test_null_handler_is_added_to_avoid_warnings": "asks for a handler of the logger \"pykka\"; ours is \"weft.actor\"",
}


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


def check(ours):
    assert {name.rpartition("::")[2].partition("[")[0] for name in ours.failed} == set(DIFFERENT), ours.output
    assert not ours.skipped
    assert len(ours.passed) == TESTS - len(DIFFERENT)


def test_on_os_threads(suite):
    ours = suites.run(suite)
    check(ours)
    assert ours.fibers == 0 and ours.natives > 100


@pytest.mark.parametrize("backend", BACKENDS)
def test_on_fibers(suite, backend):
    ours = suites.run(suite, weft=[weft_program(), "run", f"--backend={backend}"])
    check(ours)
    assert ours.natives == 0 and ours.fibers > 100
