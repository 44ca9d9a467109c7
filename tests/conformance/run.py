#!/usr/bin/env python3
"""Runs CPython's own test suites plain and under `weft run`, and compares them test by test.

Every test that passes on the plain interpreter must pass under Weft, on every CPython found and on both pollers,
unless tests/conformance/expected/ lists it with a reason and a reproduction. See expected.py for the format.
"""

import argparse
import dataclasses
import json
import os
import shutil
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import compare
import expected
import pythons
from compare import Counts, Verdict
from execution import Limits, Setup, SuiteRun, run_suite

ROOT = Path(__file__).resolve().parents[2]
SUITES = ("test_socket", "test_thread", "test_threading", "test_threading_local", "test_queue", "test_select",
          "test_selectors", "test_ssl", "test_time")


@dataclasses.dataclass
class Comparison:
    """One suite on one interpreter under one backend, against the plain run."""

    python: object
    suite: str
    backend: str
    plain: Counts
    weft: Counts
    judgements: list
    problems: list

    @property
    def failed(self):
        return [judgement for judgement in self.judgements if judgement.verdict.fails_run]


class Session:
    def __init__(self, options):
        self.options = options
        self.limits = Limits(options.timeout, options.test_timeout, tuple(options.match))
        self.pins = expected.load_pins()
        self.entries = {suite: expected.load_tests(suite) for suite in options.suite}
        self._print_lock = threading.Lock()

    def say(self, text):
        with self._print_lock:
            print(text, flush=True)

    def run_group(self, python, suite):
        """The plain run of `suite` on `python` and the runs compared with it. Returns (SuiteRun, [Comparison])."""
        plain_setup = Setup(python)
        plain = self._run(plain_setup, suite)
        if self.options.plain_only:
            self._rerun_plain(plain_setup, suite, plain)
            return plain, []
        comparisons = []
        for backend in self.options.backend:
            setup = Setup(python, backend, self.options.weft, self.options.routing)
            comparisons.append(self._compare(plain_setup, setup, suite, plain, self._run(setup, suite)))
        return plain, comparisons

    def _run(self, setup, suite, only=None, attempt=0):
        label = f"{setup.python.name} {setup.mode:8} {suite}"
        folder = Path(self.options.logs) / f"{setup.python.name}-{setup.mode}" / (f"rerun-{attempt}" if attempt else "")

        def on_event(event):
            if self.options.verbose:
                self.say(f"{label}: {event['id']} ... {event['outcome']} ({event['seconds']:.2f} s)")

        result = run_suite(setup, suite, folder, self.limits, only,
                           lambda text: self.say(f"{setup.python.name} {setup.mode} {text}"), on_event)
        if only is None:
            counts = Counts.of(result.outcomes)
            self.say(f"{label:40} {counts.run:4} run, {counts.passed:4} passed, {counts.failed} failed, "
                     f"{counts.skipped} skipped ({result.seconds:.1f} s)")
            if not result.outcomes and not self.options.match:
                result.problems.append("no test ran")
        return result

    def _rerun_plain(self, setup, suite, plain):
        for attempt in range(1, compare.MAX_ATTEMPTS):
            failing = [test for test, outcome in plain.outcomes.items() if outcome.bad]
            if not failing:
                return
            self.say(f"{setup.python.name} plain {suite}: running {len(failing)} failed tests again")
            again = self._run(setup, suite, failing, attempt).outcomes
            for test in failing:
                if test in again and again[test].good:
                    self.say(f"{setup.python.name} plain {suite}: {test} is flaky: passed in attempt {attempt + 1}")
                    plain.outcomes[test] = again[test]

    def _compare(self, plain_setup, setup, suite, plain, weft):
        attempts = {test: ([p], [w]) for test in compare.all_tests(plain.outcomes, weft.outcomes)
                    for p, w in [compare.pair_up(test, plain.outcomes, weft.outcomes)]}
        entry_of = {test: expected.entry_for(self.entries[suite], test, setup.python.minor, setup.backend)
                    for test in attempts}
        for attempt in range(1, compare.MAX_ATTEMPTS):
            again = [test for test, (p, w) in attempts.items()
                     if entry_of[test] is None and compare.needs_rerun(p, w)]
            if not again or not plain.outcomes:
                break
            self.say(f"{setup.python.name} {setup.mode} {suite}: running {len(again)} differing tests again, both ways")
            plain_again = self._run(plain_setup, suite, again, attempt).outcomes
            weft_again = self._run(setup, suite, again, attempt).outcomes
            for test in again:
                p, w = compare.pair_up(test, plain_again, weft_again)
                attempts[test][0].append(p)
                attempts[test][1].append(w)
        judgements = [compare.judge(test, p, w, entry_of[test]) for test, (p, w) in attempts.items()]
        if not self.options.match:
            judgements += self._entries_without_test(setup, suite, attempts)
        problems = [f"plain run: {problem}" for problem in plain.problems] + list(weft.problems)
        expectation = compare.Expectation(setup.backend, self.pins)
        for facts in weft.facts:
            problems += compare.check_facts(facts, expectation)
        return Comparison(setup.python, suite, setup.backend, Counts.of(plain.outcomes), Counts.of(weft.outcomes),
                          [judgement for judgement in judgements if judgement.verdict is not Verdict.SAME], problems)

    def _entries_without_test(self, setup, suite, tests):
        return [compare.Judgement(entry.id, Verdict.STALE, "listed in expected/, but there is no such test")
                for entry in self.entries[suite]
                if entry.applies(setup.python.minor, setup.backend) and entry.id not in tests]


def print_table(rows):
    header = ("python", "suite", "mode", "run", "passed", "failed", "skipped", "verdict")
    cells = [header, *[tuple(map(str, row)) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for number, row in enumerate(cells):
        print("  ".join(cell.rjust(width) if 3 <= column <= 6 else cell.ljust(width)
                        for column, (cell, width) in enumerate(zip(row, widths))).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def indented(text):
    return text.rstrip().replace("\n", "\n      ")


def report_plain(results):
    rows, totals, red = [], Counts(), False
    for python, suite, plain, _ in results:
        counts = Counts.of(plain.outcomes)
        bad = counts.failed or plain.problems
        rows.append((python.name, suite, "plain", counts.run, counts.passed, counts.failed, counts.skipped,
                     "FAILED" if bad else "ok"))
        totals.passed += counts.passed
        totals.failed += counts.failed + len(plain.problems)
        totals.skipped += counts.skipped
        for test, outcome in plain.outcomes.items():
            if outcome.bad:
                print(f"{python.name} plain: {test}: {outcome.outcome}\n      {indented(outcome.reason)}")
        for problem in plain.problems:
            print(f"{python.name} plain {suite}: {indented(problem)}")
        red = red or bool(bad)
    return rows, totals, red


def report_comparisons(results):
    rows, totals, red = [], Counts(), False
    for python, suite, plain, comparisons in results:
        counts = Counts.of(plain.outcomes)
        rows.append((python.name, suite, "plain", counts.run, counts.passed, counts.failed, counts.skipped, ""))
        for one in comparisons:
            where = f"{python.name} {one.backend} {suite}"
            for judgement in one.judgements:
                print(f"{where}: {judgement.verdict.value}: {judgement.test}: {indented(judgement.text)}")
            for problem in one.problems:
                print(f"{where}: {indented(problem)}")
            failures = len(one.failed) + len(one.problems)
            rows.append(("", "", one.backend, one.weft.run, one.weft.passed, one.weft.failed, one.weft.skipped,
                         f"{failures} FAILED" if failures else "ok"))
            totals.passed += one.weft.passed
            totals.failed += failures
            totals.skipped += one.weft.skipped
            red = red or failures > 0
    return rows, totals, red


def as_json(results):
    def outcomes(run: SuiteRun):
        return {test: dataclasses.asdict(outcome) for test, outcome in run.outcomes.items()}

    return [{"python": python.name, "executable": python.path, "suite": suite, "plain": outcomes(plain),
             "plain_problems": plain.problems,
             "weft": [{"backend": one.backend, "counts": dataclasses.asdict(one.weft), "problems": one.problems,
                       "judgements": [{"test": j.test, "verdict": j.verdict.name, "text": j.text}
                                      for j in one.judgements]} for one in comparisons]}
            for python, suite, plain, comparisons in results]


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Run CPython's own test suites plain and under `weft run`, and compare them test by test.",
        epilog="Exit code: 0 when nothing differs that is not listed in tests/conformance/expected/, 1 when "
               "something does, 2 for wrong usage. Logs, one a process: see --logs.")
    add = parser.add_argument
    add("--suite", action="append", choices=SUITES, metavar="NAME", help="a suite to run; repeatable (default: all)")
    add("--python", action="append", metavar="PATH", help="an interpreter to use; repeatable (default: those found)")
    add("--all-pythons", action="store_true", help="every CPython found, not just one of each minor version")
    add("--backend", action="append", choices=expected.BACKENDS, help="poller; repeatable (default: both)")
    add("--plain-only", action="store_true", help="run the plain interpreter only, compare nothing")
    add("--routing", choices=("on", "off"), default="on", help="off must turn the run red: it routes nothing")
    add("--weft", metavar="PATH", default=str(ROOT / "build" / "cli" / "weft"), help="default: build/cli/weft")
    add("--match", action="append", default=[], metavar="GLOB", help="only tests whose id contains this; repeatable")
    add("--jobs", type=int, default=1, help="suites to run at the same time (default: 1)")
    add("--timeout", type=float, default=900, metavar="SECONDS", help="for one suite (default: 900)")
    add("--test-timeout", type=float, default=60, metavar="SECONDS", help="for one test (default: 60)")
    add("--logs", metavar="FOLDER", default=str(ROOT / "build" / "conformance"), help="default: build/conformance")
    add("--json", metavar="OUT", help="also write everything to this file")
    add("--list", action="store_true", help="print what would run, then stop")
    add("-v", "--verbose", action="store_true", help="print each test as it ends")
    options = parser.parse_args()
    # The suites run in folders of their own.
    options.logs, options.weft = os.path.abspath(options.logs), os.path.abspath(options.weft)
    options.suite = options.suite or list(SUITES)
    options.backend = options.backend or list(expected.BACKENDS)
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    return parser, options


def choose_pythons(parser, options):
    if not options.python:
        found, problems = pythons.discover(options.all_pythons)
        if options.verbose or not found:
            for problem in problems:
                print(f"left out: {problem.splitlines()[0]}")
        if not found:
            parser.error("no CPython found that has its test suite; run scripts/setup or give --python")
        return found
    try:
        return [pythons.probe(shutil.which(path) or path) for path in options.python]
    except pythons.Unusable as problem:
        parser.error(str(problem))


def main():
    parser, options = parse_arguments()
    found = choose_pythons(parser, options)
    try:
        session = Session(options)
    except expected.BadExpectation as problem:
        parser.error(str(problem))
    modes = ["plain"] if options.plain_only else ["plain", *options.backend]
    if options.list:
        for python in found:
            for suite in options.suite:
                print(f"{python.name:8} {python.path:40} {suite:22} {', '.join(modes)}")
        return 0
    if not options.plain_only and not os.access(options.weft, os.X_OK):
        parser.error(f"no weft at {options.weft}: run `make build`, or give --weft or --plain-only")
    # A shell without job control starts what is in the background with Ctrl-C ignored, which the suites would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        groups = [(python, suite, pool.submit(session.run_group, python, suite))
                  for python in found for suite in options.suite]
        try:
            results = [(python, suite, *future.result()) for python, suite, future in groups]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    print()
    rows, totals, red = (report_plain if options.plain_only else report_comparisons)(results)
    print()
    print_table(rows)
    if options.json:
        Path(options.json).write_text(json.dumps(as_json(results), indent=1), encoding="utf-8")
    print(f"\nlogs: {options.logs}   time: {time.monotonic() - started:.0f} s")
    print(f"{totals.passed} passed, {totals.failed} failed, {totals.skipped} skipped")
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main())
