"""Leak tests in pytest: the mark, --leaks, the fixture, and what the plugin costs where nobody asks for it."""

import os
import pty
import re
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ElementTree

import pytest

PREAMBLE = """
import asyncio, ctypes, logging, os, sys, unittest, warnings
import pytest
from ctypes import c_size_t, c_void_p

malloc = ctypes.pythonapi.PyMem_RawMalloc  # whose call of malloc() is counted, also if Weft is loaded later
malloc.restype, malloc.argtypes = c_void_p, [c_size_t]
kept = []
"""


class Outcomes:
    """Of a run of pytest over one file: for each test what became of it, and the text."""

    def __init__(self, folder, text, arguments, env):
        (folder / "test_it.py").write_text(PREAMBLE + textwrap.dedent(text))
        xml = folder / "report.xml"
        xml.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--strict-markers", f"--junitxml={xml}"]
        done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False,
                              env={**os.environ, "PYTEST_ADDOPTS": "", **env})
        self.code, self.output = done.returncode, done.stdout + done.stderr
        self.tests = {}
        if not xml.exists():
            return
        for case in ElementTree.parse(xml).iter("testcase"):
            child = next((one for one in case if one.tag in ("failure", "error", "skipped")), None)
            kind = "passed" if child is None else child.tag
            text = "" if child is None else f"{child.get('message')}\n{child.text}"
            self.tests[case.get("name")] = kind, text

    def __getitem__(self, name):
        assert name in self.tests, self.output
        return self.tests[name][0]

    def text(self, name):
        return self.tests[name][1]


@pytest.fixture
def outcomes(tmp_path):
    """outcomes(text, *arguments): of pytest over a file that has the preamble and the text."""
    return lambda text, *arguments, **env: Outcomes(tmp_path, text, arguments, env)


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    return Outcomes(tmp_path_factory.mktemp("marked"), """
        @pytest.mark.leaks
        def test_clean():
            return [str(number) for number in range(50)].clear()

        @pytest.mark.leaks
        def test_objects():
            kept.append(object())

        @pytest.mark.leaks(times=50)
        def test_malloc():
            malloc(64)

        @pytest.mark.leaks(checkers=["memory", "fds"])
        @pytest.mark.parametrize("leaks", [False, True])
        def test_each(leaks):
            if leaks:
                malloc(64)

        @pytest.mark.leaks
        def test_descriptor():
            os.open("/dev/null", os.O_RDONLY)

        @pytest.mark.leaks(checkers="memory")
        def test_descriptor_of_no_interest():
            os.close(os.open("/dev/null", os.O_RDONLY))

        @pytest.mark.leaks
        def test_skipped():
            pytest.skip("for a reason")

        @pytest.mark.leaks
        def test_fails():
            assert 0 == 1, "at once"

        calls = []

        @pytest.mark.leaks
        def test_fails_later():
            calls.append(1)
            assert len(calls) < 3, "later"

        @pytest.mark.xfail(reason="known")
        @pytest.mark.leaks
        def test_known():
            malloc(64)

        @pytest.mark.leaks(times=7)
        class TestClass:
            def test_bound(self):
                malloc(64)

            @pytest.mark.leaks(times=11)
            def test_closest_mark(self):
                malloc(64)

            @pytest.mark.no_leaks("not this one")
            def test_exempt(self):
                malloc(64)

        def test_unmarked():
            malloc(64)
        """, (), {})


class TestMark:
    def test_verdicts(self, marked):
        assert marked["test_clean"] == "passed"
        assert marked["test_objects"] == marked["test_malloc"] == "failure"
        assert marked["test_each[False]"] == "passed" and marked["test_each[True]"] == "failure"
        assert marked["test_descriptor"] == "failure" and marked["test_descriptor_of_no_interest"] == "passed"
        assert marked["test_unmarked"] == marked["test_exempt"] == "passed"
        assert marked["test_known"] == "skipped"  # so JUnit has xfailed ones

    def test_the_report_is_the_text_and_no_traceback(self, marked):
        text = marked.text("test_each[True]")
        assert "test_it.py::test_each[True] leaks:\nmemory kept increasing after " in text
        assert "blocks grows by 1 blocks a call" in text
        assert "_check.py" not in marked.output and "During handling" not in marked.output
        assert "1 unclosed file descriptor after calling 'test_descriptor' 1 time" in marked.text("test_descriptor")

    def test_options(self, marked):
        assert "(calls=  50," in marked.text("test_malloc")
        assert "(calls=   7," in marked.text("test_bound")
        assert "(calls=  11," in marked.text("test_closest_mark")

    def test_what_the_first_call_does_is_as_ever(self, marked):
        assert marked["test_skipped"] == "skipped" and "for a reason" in marked.text("test_skipped")
        assert marked["test_fails"] == "failure"
        assert "AssertionError: at once\nassert 0 == 1" in marked.text("test_fails").replace("E   ", "")
        assert "leak test" not in marked.text("test_fails")

    def test_a_later_call_that_fails_is_numbered(self, marked):
        text = marked.text("test_fails_later")
        assert "assert len(calls) < 3" in text and "This was call 3 of a leak test: those before it succeeded." in text


def test_wrong_marks_are_named(outcomes):
    ours = outcomes("""
        @pytest.mark.leaks(tims=5)
        def test_unknown(): pass

        @pytest.mark.leaks(times=0)
        def test_range(): pass

        @pytest.mark.leaks(checkers="fd")
        def test_checker(): pass

        @pytest.mark.leaks(50)
        def test_position(): pass

        @pytest.mark.leaks
        async def test_async(): pass

        @pytest.mark.leaks
        @pytest.mark.no_leaks
        def test_no_reason(): pass

        class TestCoroutines(unittest.IsolatedAsyncioTestCase):
            @pytest.mark.leaks
            def test_isolated(self): pass
        """)
    expected = {
        "test_unknown": "@pytest.mark.leaks of test_it.py::test_unknown: there is no option 'tims': there are warmup_times, times, ",
        "test_range": "@pytest.mark.leaks of test_it.py::test_range: times must be >= 1 (got 0)",
        "test_checker": "@pytest.mark.leaks of test_it.py::test_checker: invalid checker names: fd; there are memory, fds,",
        "test_position": "options are given by name, as times=50, and not 50",
        "test_async": "'test_async' is an async function, and a leak test takes plain ones",
        "test_no_reason": "@pytest.mark.no_leaks of test_it.py::test_no_reason: it takes a reason, and nothing else",
        "test_isolated": "an IsolatedAsyncioTestCase cannot be run again",
    }
    assert set(ours.tests) == set(expected)
    for name, text in expected.items():
        assert ours[name] == "error" and text in ours.text(name), ours.text(name)


def test_what_pytest_records_does_not_count(outcomes):
    ours = outcomes("""
        pytestmark = pytest.mark.leaks

        def noise():
            print("x" * 100)
            logging.warning("something")
            warnings.warn("old", DeprecationWarning)

        def test_plain():
            noise()

        def test_fixtures(capsys, caplog, monkeypatch):
            monkeypatch.setenv("SOME", "value")
            monkeypatch.setattr(sys, "some", 5, raising=False)
            noise()
            assert len(caplog.records) == 1
            assert capsys.readouterr().out == "x" * 100 + "\\n"
            noise()

        def test_others(capfd, recwarn):
            os.write(1, b"bytes")
            noise()
            assert len(recwarn) == 1

        @pytest.fixture
        def patching(monkeypatch):
            monkeypatch.setenv("FROM_FIXTURE", "1")
            yield monkeypatch
            assert os.environ["FROM_FIXTURE"] == "1"

        def test_shared(patching, monkeypatch, request):
            patching.setenv("SOME", "value")
            patching.setattr(sys, "other", 5, raising=False)
            assert os.environ["FROM_FIXTURE"] == "1"

        class TestCase(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def inject(self, monkeypatch):
                self.monkeypatch = monkeypatch

            def test_injected(self):
                self.monkeypatch.setenv("SOME", "value")

        @pytest.mark.leaks(checkers="memory")
        def test_mocks(mocker):
            mocker.patch("os.getlogin", return_value="1")
            assert os.getlogin() == "1"

        @pytest.fixture
        def file(tmp_path):
            (tmp_path / "given").write_text("text")

        def test_files(file, tmp_path):
            (tmp_path / "folder").mkdir()
            (tmp_path / "folder" / "some").write_text("text")
            (tmp_path / "link").symlink_to(tmp_path / "folder")
            (tmp_path / "given").read_text()

        def test_everything_is_undone():
            assert not {"SOME", "FROM_FIXTURE"} & os.environ.keys() and not hasattr(sys, "other") and not hasattr(sys, "some")
            assert "Mock" not in type(os.getlogin).__name__
        """, "-rA")
    assert len(ours.tests) == 8 and {kind for kind, _ in ours.tests.values()} == {"passed"}, ours.output
    assert ours.output.count("x" * 100) == 1  # what the first call wrote, of test_plain
    assert "DeprecationWarning: old" in ours.output

    ours = outcomes("""
        def noise():
            print("x" * 100)
            logging.warning("something")

        def test_checked(leak_check, capsys, caplog):
            leak_check(noise)
        """, "-s")
    assert ours["test_checked"] == "passed", ours.output


SELECTION = """
    class TestOld(unittest.TestCase):
        done = []

        def setUp(self):
            self.assertFalse(hasattr(self, "some"))
            self.some = []

        def tearDown(self):
            del self.some

        def test_clean(self):
            self.some.append(1)
            assert len(self.some) == 1

        def test_leaks(self):
            malloc(64)

        @unittest.expectedFailure
        def test_expected(self):
            self.fail()

        def test_skips(self):
            self.skipTest("why")

        def test_fails_later(self):
            self.done.append(1)
            self.addCleanup(self.done.append, 2)
            self.assertLess(len(self.done), 4)

    class TestTearDown(unittest.TestCase):
        def tearDown(self):
            malloc(64)

        def test_what_is_round_it(self):
            pass

    from weft.leaks import MemoryLeakTestCase, leak_test

    class TestOfItself(MemoryLeakTestCase):
        calls = 0

        def test_case(self):
            TestOfItself.calls += 1
            assert self.calls == 1

    def test_plain():
        pass

    def test_plain_leak():
        kept.append(object())

    @pytest.mark.no_leaks("it may")
    def test_exempt():
        malloc(64)

    calls = []

    def test_fixture(leak_check):
        calls.append(1)
        assert len(calls) == 1

    @leak_test(times=20)
    def test_decorated():
        malloc(64)
"""


def test_every_selected_test(outcomes):
    ours = outcomes(SELECTION, "--leaks", "--leaks-times=30")
    failed = {"test_leaks", "test_what_is_round_it", "test_plain_leak", "test_decorated", "test_fails_later"}
    assert {name for name, (kind, _) in ours.tests.items() if kind == "failure"} == failed, ours.output
    assert {name for name, (kind, _) in ours.tests.items() if kind == "skipped"} == {"test_expected", "test_skips"}
    assert len(ours.tests) == 12
    assert "(calls=  30," in ours.text("test_leaks") and "(calls=  20," in ours.text("test_decorated")
    assert "This was call 3 of a leak test" in ours.text("test_fails_later")
    with_pdb = outcomes(SELECTION, "--leaks", "--leaks-times=30", "--pdb", "-k", "TestTearDown or test_clean")
    assert with_pdb.tests["test_what_is_round_it"][0] == "failure" and with_pdb.tests["test_clean"][0] == "passed"


def test_without_it_nothing_is_repeated(outcomes):
    ours = outcomes(SELECTION, "-k", "not test_decorated")
    assert ours.code == 0 and len(ours.tests) == 11, ours.output


GARBAGE = """
    def test_has_a_class():
        class Local: pass
"""


def test_garbage_of_a_test_is_no_leak_unless_it_is_marked(outcomes):
    assert outcomes(GARBAGE, "--leaks", "--leaks-times=20")["test_has_a_class"] == "passed"
    ours = outcomes("pytestmark = pytest.mark.leaks\n" + textwrap.dedent(GARBAGE))
    assert "uncollectable GC objects after calling 'test_has_a_class'" in ours.text("test_has_a_class")


def test_a_long_list_of_what_is_left_is_shortened(outcomes):
    ours = outcomes("""
        @pytest.mark.leaks(checkers="gcgarbage")
        def test_it():
            for _ in range(50):
                ring = []
                ring.append({"ring": ring, "text": object(), "more": unittest.TestCase, **dict.fromkeys("abcdefgh", object())})
        """)
    lines = ours.text("test_it").rpartition(" leaks:")[2].splitlines()
    assert 20 < len(lines) < 35 and max(map(len, lines)) < 210 and re.fullmatch("[.]{3} and [0-9]+ more", lines[-1]), lines[-1]


def test_async_tests_are_told_how_to_be_left_out(outcomes):
    ours = outcomes("async def test_async(): pass", "--leaks")
    assert "test_async: 'test_async' is an async function" in ours.text("test_async")
    assert "@pytest.mark.no_leaks(reason) has it run as ever" in ours.text("test_async")


def test_defaults(outcomes, tmp_path):
    leaking = "@pytest.mark.leaks\ndef test_it(): malloc(64)"
    checking = "def test_it(leak_check): leak_check(malloc, 64)"
    (tmp_path / "pytest.ini").write_text("[pytest]\nleaks_times = 13\nleaks_time_limit = 5")
    assert "(calls=  13," in outcomes(leaking).text("test_it")
    assert "(calls=  13," in outcomes(checking).text("test_it")
    assert "(calls=  17," in outcomes(leaking, "--leaks-times=17").text("test_it")
    (tmp_path / "pytest.ini").write_text("[pytest]\nleaks_times = many")
    wrong = outcomes(leaking)
    assert wrong.code == 4 and "leaks_times: 'many' is no number" in wrong.output
    (tmp_path / "pytest.ini").unlink()
    wrong = outcomes(leaking, "--leaks-time-limit=-1")
    assert wrong.code == 4 and "--leaks-time-limit must be more than 0, not -1.0" in wrong.output


def test_a_slow_test_is_called_less_often(outcomes):
    ours = outcomes("""
        import time
        calls = []

        @pytest.mark.leaks
        def test_slow():
            calls.append(1)
            time.sleep(0.02)

        def test_after():
            assert 10 < len(calls) < 100
        """, "--leaks-time-limit=1")
    assert ours["test_after"] == "passed", ours.output


def test_growth_is_drawn(outcomes, tmp_path):
    ours = outcomes("""
        @pytest.mark.leaks(times=20)
        @pytest.mark.parametrize("name", ["a b", "a:b", "plain"])
        def test_it(name): malloc(64)

        def test_checked(leak_check): leak_check(malloc, 64, times=20)

        @pytest.mark.leaks
        def test_clean(): pass

        @pytest.mark.leaks
        def test_descriptor(): os.open("/dev/null", os.O_RDONLY)
        """, "--leaks-svg=some/growth")
    drawn = {path.name: path.read_text() for path in (tmp_path / "some/growth").iterdir()}
    assert len(drawn) == 4 and "test_it.py-test_it[plain].svg" in drawn and "test_it.py-test_checked.svg" in drawn
    assert all(text.startswith("<svg ") for text in drawn.values())
    for test in ("test_it[a b]", "test_it[a:b]", "test_it[plain]", "test_checked"):
        (path,) = set(re.findall(r"Its growth: (.*\.svg)", ours.text(test)))
        assert os.path.dirname(path) == str(tmp_path / "some/growth") and os.path.basename(path) in drawn


class TestFixture:
    def test_it(self, outcomes):
        ours = outcomes("""
            from weft.leaks import Error, MemoryLeakError

            def test_clean(leak_check):
                report = leak_check(len, "abc", times=20)
                assert not report.leaks and report.calls >= 80

            def test_leaks(leak_check):
                leak_check(lambda: malloc(64))

            def test_raised(leak_check):
                with pytest.raises(MemoryLeakError, match="memory kept increasing"):
                    leak_check(malloc, 64)

            def test_unknown(leak_check):
                leak_check(len, "abc", tims=5)

            def test_result(leak_check):
                leak_check(len("abc"))

            def test_async(leak_check):
                async def work(): pass
                leak_check(work)
            """)
        assert ours["test_clean"] == ours["test_raised"] == "passed", ours.output
        text = ours.text("test_leaks")
        assert "MemoryLeakError: memory kept increasing" in text and "_check.py" not in text and "_pytest.py" not in text
        assert "leak_check(): there is no option 'tims': there are " in ours.text("test_unknown")
        assert "pass the function, not its result" in ours.text("test_result")
        assert "leak_check(): 'test_async.<locals>.work' is an async function" in ours.text("test_async").replace("&lt;", "<")


LIGHT = """
def test_one(): pass

class TestTwo:
    def test_two(self, tmp_path): pass
"""


def test_a_run_that_does_not_ask_loads_nothing(tmp_path):
    (tmp_path / "test_it.py").write_text(LIGHT)
    (tmp_path / "conftest.py").write_text("""
import sys

def pytest_unconfigure():
    print("loaded:", *sorted(sys.modules))
    print("mapped:", "libweft" in open("/proc/self/maps").read())
""")

    def loaded(*arguments):
        done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments, tmp_path], cwd=tmp_path,
                              capture_output=True, text=True, timeout=60, check=False)
        assert "2 passed" in done.stdout and "mapped: False" in done.stdout, done.stdout
        return set(re.search("loaded: (.*)", done.stdout).group(1).split())

    assert loaded() ^ loaded("-p", "no:weft_pytest") == {"weft_pytest"}


def test_weft_may_be_imported_before_pytest(run_program, tmp_path):
    (tmp_path / "test_it.py").write_text(LIGHT)
    done = run_program("import sys, pytest, weft; sys.exit(pytest.main(['-p', 'no:cacheprovider', sys.argv[1]]))", str(tmp_path))
    assert done.returncode == 0 and "2 passed in" in done.stdout, done.stdout  # and no warning


def test_xdist_is_warned_of_once_a_worker(outcomes):
    ours = outcomes("""
        @pytest.mark.leaks(times=20)
        @pytest.mark.parametrize("number", range(6))
        def test_clean(number): pass

        @pytest.mark.leaks(times=20)
        def test_leaks(): malloc(64)
        """, "-n", "2", "-v")
    assert ours["test_leaks"] == "failure"
    assert [kind for kind, _ in ours.tests.values()].count("passed") == 6, ours.output
    assert "leak tests under pytest-xdist do not look for files" in ours.output
    warned = re.search(r"=+ warnings summary =+\n(.*?)\n  ", ours.output, re.DOTALL).group(1)
    assert 1 <= len(warned.splitlines()) <= 2, ours.output


@pytest.mark.parametrize("arguments, shown", [((), True), (("-v",), True), (("-q", "-q"), False), (("-s",), True)])
def test_progress_on_a_terminal(tmp_path, arguments, shown):
    (tmp_path / "test_it.py").write_text(PREAMBLE + """
@pytest.mark.leaks(times=20)
def test_clean(capsys): print("output")
@pytest.mark.leaks(times=20)
def test_leaks(): print("output"), malloc(64)
""")
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments, tmp_path], cwd=tmp_path,
                          stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
                          env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "PYTEST_ADDOPTS": ""}) as run:
        os.close(theirs)
        output = bytearray()
        try:
            while piece := os.read(ours, 65536):
                output += piece
        except OSError:  # all have closed it
            pass
        finally:
            os.close(ours)
    text = output.decode()
    assert run.returncode == 1, text
    lines = re.findall("\x1b7(.*?)\x1b\\[K\x1b8", text)
    assert bool(lines) == shown, text
    if shown:
        assert lines[0] == "  leak test ..." and lines[-1] == "" and re.fullmatch(r"  leak test: [\d,]+ calls, \d+\.\d s", lines[1])
    assert ("leak test:" in re.sub("\x1b7.*?\x1b8", "", text)) is False
