"""mirakuru's own tests, unchanged, against weft.process."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import suites
from weft_run import BACKENDS, weft_program

MIRAKURU = suites.Peer("mirakuru", "3.0.0", "8621706f40bd12182a6d785005be64d72ed355390f1d0701ce8f745ee47a10a5")

# What its tests import or use beside it.
NEEDED = ("python-daemon==3.1.2", "lockfile==0.12.2", "pytest-rerunfailures==15.0", "packaging==25.0")

TESTS = 64

# What is not promised, by name: these look at how mirakuru does what it does.
DIFFERENT = {
    "test_additional_popen_kwargs_are_passed_through": "replaces subprocess.Popen, which is not used",
    "test_additional_popen_kwargs_do_not_override_standard_streams": "replaces subprocess.Popen, which is not used",
    "test_stopping_children_of_stopped_process": "replaces mirakuru.base.processes_with_env, of which there is no need",
}

# By chance: it stops `sh -c false`, and expects that it did not end by itself before. In a loop mirakuru failed it 79
# times of 100, and we did 72 times.
RACES = {"test_stop_custom_exit_signal_context"}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    try:
        tests = suites.fetch(MIRAKURU)
        needed = suites.packages("mirakuru-needs", *NEEDED)
    except suites.NotRun as reason:
        pytest.skip(f"not run: {reason}")
    folder = tmp_path_factory.mktemp("mirakuru")
    shutil.copytree(tests, folder / "tests")
    return folder, needed


def check(suite, **keywords):
    folder, needed = suite
    # What the tests start as `python` is this one, and has the stand-in, too.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # COLUMNS: the tests look for paths in what ps writes, which cuts long lines.
    ours = suites.run(folder, plugin="stand_in_for_mirakuru", path=[suites.HERE / "stand_ins", needed], PATH=path,
                      COLUMNS="1000", **keywords)
    failed = {name.rpartition("::")[2].partition("[")[0] for name in ours.failed}
    assert failed - RACES == set(DIFFERENT), ours.output
    assert not ours.skipped
    assert len(ours.passed | ours.failed) == TESTS
    return ours


def test_on_os_threads(suite):
    check(suite)


@pytest.mark.parametrize("backend", BACKENDS)
def test_on_fibers(suite, backend):
    ours = check(suite, weft=[weft_program(), "run", f"--backend={backend}"])
    assert int(re.search(r"fibers were switched (\d+) times", ours.errors).group(1)) > 1000
