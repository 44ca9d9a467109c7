"""Judges what the interpreter's tests did under Weft by what they did plain. Pure: no processes, no files."""

from dataclasses import dataclass, field
from enum import Enum

MAX_ATTEMPTS = 3
_GOOD = {"passed", "expectedFailure"}


@dataclass(frozen=True)
class Outcome:
    """What became of one test: an outcome of suite_runner.py, or hung, or crashed."""

    outcome: str
    reason: str = ""
    subskips: int = 0
    seconds: float = 0.0

    @property
    def good(self):
        return self.outcome in _GOOD

    @property
    def skipped(self):
        return self.outcome == "skipped"

    @property
    def bad(self):
        return not self.good and not self.skipped


MISSING = Outcome("missing", "did not run, though it runs plain")


class Verdict(Enum):
    SAME = "same"
    EXPECTED = "differs as listed"
    FLAKY_PLAIN = "flaky on the plain interpreter too"
    FAILS_PLAIN = "fails on the plain interpreter too"
    FAILURE = "FAILURE"
    UNSTABLE = "UNSTABLE"
    STALE = "STALE"

    @property
    def fails_run(self):
        return self in (Verdict.FAILURE, Verdict.UNSTABLE, Verdict.STALE)


@dataclass
class Judgement:
    test: str
    verdict: Verdict
    text: str


def difference(plain, weft):
    """How `weft` is worse than `plain` (None: the test was not in the plain run), or None when it is not."""
    if weft.bad:
        before = plain.outcome if plain else "absent"
        return f"{before} plain, {weft.outcome} under weft"
    if plain is None or not plain.good:
        return None
    if weft.skipped:
        return f"{plain.outcome} plain, skipped under weft: {weft.reason}"
    if weft.subskips > plain.subskips:
        return f"{weft.subskips} subtests skipped under weft, {plain.subskips} plain"
    return None


def needs_rerun(plain, weft):
    """Whether a test with these attempts (lists of Outcome, equally long) should be run again, both ways."""
    if len(plain) >= MAX_ATTEMPTS:
        return False
    if all(difference(p, w) is None for p, w in zip(plain, weft)):
        return False
    plain_wavers = any(p is not None and p.bad for p in plain)
    weft_passed = any(difference(p, w) is None for p, w in zip(plain, weft))
    if plain_wavers:
        return not weft_passed  # a single pass under weft settles a test that is flaky plain
    # Plain is steady. Failing twice running settles it; a failure and a pass ask for a third.
    return weft_passed or len(plain) < 2


def judge(test, plain, weft, entry=None):
    """The verdict on one test. `entry` is its entry in expected/ when it has one for this python and backend."""
    differences = [difference(p, w) for p, w in zip(plain, weft)]
    worse = [text for text in differences if text]
    attempts = len(differences)
    plain_bad = sum(p is not None and p.bad for p in plain)
    if plain_bad == attempts:
        return Judgement(test, Verdict.FAILS_PLAIN, f"{plain[-1].outcome} plain, {weft[-1].outcome} under weft")
    if entry is not None:
        if worse:
            return Judgement(test, Verdict.EXPECTED, f"{worse[0]} ({entry.reason})")
        if not entry.flaky and not plain_bad:
            return Judgement(test, Verdict.STALE, "listed in expected/, but it passes now: remove the entry")
        return Judgement(test, Verdict.SAME, "")
    if not worse:
        return Judgement(test, Verdict.SAME, "")
    if plain_bad and len(worse) < attempts:
        return Judgement(test, Verdict.FLAKY_PLAIN,
                         f"failed plain {plain_bad} of {attempts} times, under weft {len(worse)} of {attempts}")
    if len(worse) < attempts:
        return Judgement(test, Verdict.UNSTABLE,
                         f"failed under weft {len(worse)} of {attempts} times, plain never: {worse[0]}")
    return Judgement(test, Verdict.FAILURE, worse[0])


def all_tests(plain, weft):
    return list(dict.fromkeys([*plain, *weft]))


def pair_up(test, plain, weft):
    """The outcomes of `test` in both runs; what ran plain and not under weft is MISSING there."""
    p, w = plain.get(test), weft.get(test)
    if w is None:
        # A setUpClass or setUpModule that failed or skipped plain has no counterpart when it succeeds under weft.
        fixture = test.startswith(("setUp", "tearDown"))
        w = Outcome("passed") if fixture else MISSING
    return p, w


@dataclass
class Counts:
    run: int = 0
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    @classmethod
    def of(cls, outcomes):
        counts = cls(run=len(outcomes))
        for outcome in outcomes.values():
            counts.passed += outcome.good
            counts.skipped += outcome.skipped
            counts.failed += outcome.bad
        return counts


# Weft's own threads beyond carriers and pool: the monitor, and one that may be starting or ending.
OWN_THREADS = 2


@dataclass
class RunFacts:
    """What was seen of one process from outside, and its --stats-file (None when it wrote none)."""

    stats: dict | None
    killed: bool = False
    os_threads_peak: int = 0


@dataclass
class Expectation:
    backend: str
    pins: list = field(default_factory=list)


def check_facts(facts, expectation):
    """The complaints about one process's statistics; an empty list when all is as it must be."""
    stats = facts.stats
    if stats is None:
        return [] if facts.killed else ["wrote no statistics: was it run by weft at all?"]
    complaints = []
    if stats["routing"] is not True:
        complaints.append("routing was off: nothing was tested")
    if stats["backend"] != expectation.backend:
        complaints.append(f"backend was {stats['backend']}, not {expectation.backend}")
    if stats["native_threads"] != 0:
        complaints.append(f"{stats['native_threads']} threads were OS threads, not fibers")
    if stats["fibers"]["created"] == 0:
        complaints.append("no fiber was created")
    allowed = stats["carriers"] + stats["pool_threads_peak"] + OWN_THREADS
    if facts.os_threads_peak > allowed:
        complaints.append(f"{facts.os_threads_peak} OS threads seen, more than {stats['carriers']} carriers + "
                          f"{stats['pool_threads_peak']} pool threads + {OWN_THREADS}")
    for pin in stats["pins"]:
        if not any(listed.covers(pin) for listed in expectation.pins):
            complaints.append(f"pinned {pin['count']} times in {pin['call']} by {pin['library']} "
                              f"(at most {pin['max_ns'] / 1e6:.1f} ms): not listed in expected/pins.toml")
    return complaints
