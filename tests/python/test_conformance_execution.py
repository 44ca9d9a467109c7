"""How the conformance tests run a suite: hanging and dying tests cost only themselves."""

import os
import sys

import pytest

import execution
import pythons

FAKE_SUITE = '''
import os, signal, threading, time, unittest

class Fake(unittest.TestCase):
    def test_a_passes(self): pass
    def test_b_fails(self): self.fail("on purpose")
    def test_c_hangs(self): time.sleep(3600)
    def test_d_subtests(self):
        for number in range(3):
            with self.subTest(number=number):
                if number == 1: self.skipTest("odd")
                self.assertNotEqual(number, 2)
    def test_e_crashes(self): os.kill(os.getpid(), signal.SIGKILL)
    @unittest.skip("not today")
    def test_f_skipped(self): pass
    @unittest.expectedFailure
    def test_g_expected(self): self.fail("known")
    def test_h_leaves_a_child(self):
        if os.fork() == 0:
            time.sleep(3600)
    def test_i_VSOCKSocketStream(self): self.fail("must be left out")

class NoSetUp(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise RuntimeError("no set-up")
    def test_never(self): pass

class Twice(Fake):
    test_b_fails = test_c_hangs = test_d_subtests = test_e_crashes = None
    test_g_expected = test_h_leaves_a_child = test_i_VSOCKSocketStream = None

def load_tests(loader, tests, pattern):
    tests.addTest(Fake("test_a_passes"))
    return tests
'''


@pytest.fixture
def fake_python(tmp_path):
    """An interpreter whose `test` package also holds the suite test_fake."""
    package = tmp_path / "library" / "test"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from pkgutil import extend_path; __path__ = extend_path(__path__, __name__)")
    (package / "test_fake.py").write_text(FAKE_SUITE)
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={package.parent} exec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    return pythons.Python(str(wrapper), sys.version_info[:3])


def run_fake(fake_python, tmp_path, match=(), only=None):
    limits = execution.Limits(60, 1.5, match)
    return execution.run_suite(execution.Setup(fake_python), "test_fake", tmp_path / "logs", limits, only)


def test_a_hang_and_a_crash_cost_only_themselves(fake_python, tmp_path):
    done = run_fake(fake_python, tmp_path)
    assert done.problems == []
    name = "test.test_fake.Fake."
    outcomes = {test.removeprefix(name): outcome.outcome for test, outcome in done.outcomes.items()}
    assert outcomes == {
        "test_a_passes": "passed", "test_b_fails": "failed", "test_c_hangs": "hung", "test_d_subtests": "failed",
        "test_e_crashes": "crashed", "test_f_skipped": "skipped", "test_g_expected": "expectedFailure",
        "test_h_leaves_a_child": "passed", "test_a_passes#2": "passed",
        "setUpClass (test.test_fake.NoSetUp)": "error",
        "test.test_fake.Twice.test_a_passes": "passed", "test.test_fake.Twice.test_f_skipped": "skipped"}
    assert done.outcomes[name + "test_d_subtests"].subskips == 1
    assert "on purpose" in done.outcomes[name + "test_b_fails"].reason
    hung = done.outcomes[name + "test_c_hangs"].reason
    assert "no progress" in hung and "in test_c_hangs" in hung  # the stack faulthandler wrote
    assert "exit code -9" in done.outcomes[name + "test_e_crashes"].reason


def test_only_and_match_choose_tests(fake_python, tmp_path):
    done = run_fake(fake_python, tmp_path, only=["test.test_fake.Fake.test_a_passes#2"])
    assert list(done.outcomes) == ["test.test_fake.Fake.test_a_passes#2"]
    done = run_fake(fake_python, tmp_path, match=("Fake.test_b*",))
    assert list(done.outcomes) == ["test.test_fake.Fake.test_b_fails"]


def test_a_suite_that_cannot_be_imported_is_a_problem(fake_python, tmp_path):
    limits = execution.Limits(60, 5)
    done = execution.run_suite(execution.Setup(fake_python), "test_no_such_suite", tmp_path, limits)
    assert done.outcomes == {} and "No module named" in done.problems[0]


def test_the_environment_of_the_caller_stays_out(monkeypatch):
    for name in ("PYTHONPATH", "WEFT_BACKEND", "LD_PRELOAD", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "x")
    environment = execution.clean_environment()
    assert not [name for name in environment if name.startswith(("PYTHON", "WEFT_", "LD_", "VIRTUAL"))]
    assert environment["PATH"] == os.environ["PATH"]


def test_virtual_environments_lead_to_their_interpreter():
    assert pythons.probe(sys.executable).path == os.path.realpath(sys._base_executable)


def test_an_unusable_interpreter_is_refused_with_a_reason(tmp_path):
    with pytest.raises(pythons.Unusable, match="No such file"):
        pythons.probe(str(tmp_path / "python3"))
