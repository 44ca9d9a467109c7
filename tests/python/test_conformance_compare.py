"""The judge of the conformance tests: what counts as a difference, and what statistics must hold."""

import pytest

import compare
import expected
from compare import Expectation, Outcome, RunFacts, Verdict

PASSED = Outcome("passed")
FAILED = Outcome("failed", "boom")
SKIPPED = Outcome("skipped", "no such thing")
HUNG = Outcome("hung", "no progress")
ENTRY = expected.Entry("test.test_x.T.test_a", ("3.13",), ("epoll",), "cannot", "expected/r.py")


@pytest.mark.parametrize("plain, weft, text", [
    (PASSED, PASSED, None),
    (PASSED, FAILED, "passed plain, failed under weft"),
    (PASSED, HUNG, "passed plain, hung under weft"),
    (PASSED, Outcome("crashed"), "passed plain, crashed under weft"),
    (PASSED, compare.MISSING, "passed plain, missing under weft"),
    (PASSED, SKIPPED, "passed plain, skipped under weft: no such thing"),
    (SKIPPED, SKIPPED, None),
    (SKIPPED, PASSED, None),
    (SKIPPED, FAILED, "skipped plain, failed under weft"),
    (None, PASSED, None),
    (None, FAILED, "absent plain, failed under weft"),
    (Outcome("expectedFailure"), Outcome("expectedFailure"), None),
    (Outcome("expectedFailure"), Outcome("unexpectedSuccess"), "expectedFailure plain, unexpectedSuccess under weft"),
    (Outcome("passed", subskips=1), Outcome("passed", subskips=1), None),
    (PASSED, Outcome("passed", subskips=2), "2 subtests skipped under weft, 0 plain"),
    (FAILED, SKIPPED, None),
])
def test_difference(plain, weft, text):
    assert compare.difference(plain, weft) == text


@pytest.mark.parametrize("plain, weft, again", [
    ([PASSED], [PASSED], False),
    ([PASSED], [FAILED], True),
    ([PASSED] * 2, [FAILED] * 2, False),           # settled: it fails
    ([PASSED] * 2, [FAILED, PASSED], True),
    ([PASSED] * 3, [FAILED, PASSED, PASSED], False),
    ([FAILED], [PASSED], False),                   # nothing to hold against us
    ([FAILED], [FAILED], True),                    # does plain ever pass?
    ([FAILED, PASSED], [FAILED, FAILED], True),
    ([FAILED, PASSED], [FAILED, PASSED], False),
    ([FAILED] * 3, [FAILED] * 3, False),
])
def test_needs_rerun(plain, weft, again):
    assert compare.needs_rerun(plain, weft) is again


@pytest.mark.parametrize("plain, weft, entry, verdict", [
    ([PASSED], [PASSED], None, Verdict.SAME),
    ([PASSED] * 2, [FAILED] * 2, None, Verdict.FAILURE),
    ([PASSED] * 2, [SKIPPED] * 2, None, Verdict.FAILURE),
    ([PASSED] * 3, [FAILED, PASSED, PASSED], None, Verdict.UNSTABLE),
    ([FAILED] * 3, [FAILED] * 3, None, Verdict.FAILS_PLAIN),
    ([FAILED], [PASSED], None, Verdict.FAILS_PLAIN),
    ([FAILED, PASSED], [FAILED, PASSED], None, Verdict.FLAKY_PLAIN),
    ([PASSED, FAILED], [FAILED, PASSED], None, Verdict.FLAKY_PLAIN),
    ([FAILED, PASSED, PASSED], [FAILED] * 3, None, Verdict.FAILURE),
    ([PASSED], [FAILED], ENTRY, Verdict.EXPECTED),
    ([PASSED], [PASSED], ENTRY, Verdict.STALE),
    ([SKIPPED], [SKIPPED], ENTRY, Verdict.STALE),
    ([FAILED], [FAILED], ENTRY, Verdict.FAILS_PLAIN),
    ([PASSED], [PASSED], expected.Entry("i", (), (), "r", "p", flaky=True), Verdict.SAME),
])
def test_judge(plain, weft, entry, verdict):
    judged = compare.judge("test.test_x.T.test_a", plain, weft, entry)
    assert judged.verdict is verdict
    assert verdict.fails_run is (verdict in (Verdict.FAILURE, Verdict.UNSTABLE, Verdict.STALE))


def test_a_plain_skip_of_a_class_has_no_counterpart_when_the_class_runs():
    plain, weft = compare.pair_up("setUpClass (test.test_x.T)", {"setUpClass (test.test_x.T)": SKIPPED}, {})
    assert compare.difference(plain, weft) is None


def test_a_test_that_did_not_run_under_weft_is_missing():
    plain, weft = compare.pair_up("test.test_x.T.test_a", {"test.test_x.T.test_a": PASSED}, {})
    assert compare.difference(plain, weft) == "passed plain, missing under weft"


def test_counts():
    counts = compare.Counts.of({"a": PASSED, "b": FAILED, "c": SKIPPED, "d": HUNG, "e": Outcome("expectedFailure")})
    assert (counts.run, counts.passed, counts.failed, counts.skipped) == (5, 2, 2, 1)


def good_stats(**changes):
    return {"routing": True, "backend": "epoll", "native_threads": 0, "carriers": 1, "pool_threads_peak": 2,
            "fibers": {"created": 5}, "pins": [], **changes}


PIN = {"call": "poll", "library": "/usr/lib/_psycopg.cpython.so", "count": 3, "total_ns": 9, "max_ns": 5_000_000}


@pytest.mark.parametrize("stats, complaint", [
    (good_stats(), None),
    (good_stats(routing=False), "routing was off"),
    (good_stats(backend="io_uring"), "backend was io_uring, not epoll"),
    (good_stats(native_threads=1), "1 threads were OS threads"),
    (good_stats(fibers={"created": 0}), "no fiber was created"),
    (good_stats(pins=[PIN]), "pinned 3 times in poll"),
    (None, "wrote no statistics"),
])
def test_check_facts(stats, complaint):
    complaints = compare.check_facts(RunFacts(stats, os_threads_peak=3), Expectation("epoll"))
    if complaint is None:
        assert complaints == []
    else:
        assert len(complaints) == 1 and complaint in complaints[0]


def test_check_facts_counts_os_threads():
    expectation = Expectation("epoll")
    assert compare.check_facts(RunFacts(good_stats(), os_threads_peak=5), expectation) == []
    [complaint] = compare.check_facts(RunFacts(good_stats(), os_threads_peak=6), expectation)
    assert "6 OS threads seen" in complaint


def test_check_facts_accepts_listed_pins_and_killed_processes():
    listed = [expected.Pin("poll", "_psycopg*.so", "holds the lock")]
    facts = RunFacts(good_stats(pins=[PIN]))
    assert compare.check_facts(facts, Expectation("epoll", listed)) == []
    assert compare.check_facts(RunFacts(None, killed=True), Expectation("epoll")) == []
