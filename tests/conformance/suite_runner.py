"""Runs one of the interpreter's own test modules and records what became of each test.

Started by run.py inside the interpreter under test, plain or under `weft run`; uses only that interpreter's
standard library. Every event is one JSON line, appended to the file at once, so that the record is complete up to
the last started test when the process hangs or crashes:

    {"event": "begin", "pid": 1}
    {"event": "start", "id": "test.test_queue.QueueTest.test_x"}
    {"event": "end", "id": "...", "outcome": "passed", "reason": "", "subskips": 0, "seconds": 0.1}
    {"event": "finish"}

Outcomes: passed, failed, error, skipped, expectedFailure, unexpectedSuccess. A test with a failing subtest failed.
"""

import argparse
import faulthandler
import fnmatch
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
import unittest

# Asks for the Python stacks of all threads; no test of the suites uses this signal.
DUMP_SIGNAL = signal.SIGRTMIN + 5


class Events:
    def __init__(self, path):
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._pid = os.getpid()

    def write(self, event, **fields):
        # A test that forks may let the child run on into the result; only the parent's word counts.
        if os.getpid() == self._pid:
            os.write(self._fd, (json.dumps({"event": event, **fields}) + "\n").encode())


class Recorder(unittest.TestResult):
    """Writes each outcome as it is known, and a line of progress."""

    def __init__(self, events):
        super().__init__()
        self._events = events
        self._current = None

    def startTest(self, test):
        super().startTest(test)
        self._begin(test)

    def stopTest(self, test):
        super().stopTest(test)
        if self._current:  # 3.12.1 stops tests it skipped without starting them
            self._end()

    def addSuccess(self, test):
        super().addSuccess(test)
        self._set(test, "passed")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._set(test, "failed", self._text(err))

    def addError(self, test, err):
        super().addError(test, err)
        self._set(test, "error", self._text(err))

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        if self._current and test.id() != self._current["raw"]:
            self._current["subskips"] += 1
        else:
            self._set(test, "skipped", reason)

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self._set(test, "expectedFailure")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._set(test, "unexpectedSuccess")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            outcome = "failed" if issubclass(err[0], test.failureException) else "error"
            self._set(test, outcome, f"{subtest}\n{self._text(err)}")

    @staticmethod
    def _text(err):
        return "".join(traceback.format_exception(*err))[-4000:]

    def _begin(self, test):
        raw = test.id()
        name = getattr(test, "conformance_name", raw)
        self._current = {"raw": raw, "id": name, "outcome": "passed", "reasons": [], "subskips": 0,
                         "started": time.monotonic()}
        self._events.write("start", id=name)

    def _end(self):
        done, self._current = self._current, None
        seconds = time.monotonic() - done["started"]
        reason = "\n".join(done["reasons"])
        self._events.write("end", id=done["id"], outcome=done["outcome"], reason=reason,
                           subskips=done["subskips"], seconds=round(seconds, 4))
        print(f"{done['id']} ... {done['outcome']} ({seconds:.2f} s)", flush=True)
        if done["outcome"] in ("failed", "error"):
            print(reason, flush=True)

    def _set(self, test, outcome, reason=""):
        outside = self._current is None  # a failing or skipping setUpClass or setUpModule
        if outside:
            self._begin(test)
        # The first failure names the outcome; a later success or failure does not overwrite it.
        if self._current["outcome"] not in ("failed", "error"):
            self._current["outcome"] = outcome
        if reason:
            self._current["reasons"].append(reason)
        if outside:
            self._end()


def keep_only(suite, wanted):
    """Removes from `suite`, in place, the tests whose name `wanted` does not accept.

    The name is the id; a module may hold the same test twice, and the second is then called id#2.
    """
    seen = {}

    def walk(node):
        kept = []
        for test in node._tests:
            if isinstance(test, unittest.TestSuite):
                walk(test)
                kept.append(test)
            else:
                seen[test.id()] = count = seen.get(test.id(), 0) + 1
                test.conformance_name = test.id() if count == 1 else f"{test.id()}#{count}"
                if wanted(test.conformance_name):
                    kept.append(test)
        node._tests = kept

    walk(suite)


def prepare_process():
    """What regrtest sets up for a test run."""
    from test import support

    os.umask(0o022)
    faulthandler.enable(all_threads=True, file=sys.__stderr__.fileno())
    faulthandler.register(DUMP_SIGNAL, all_threads=True, file=sys.__stderr__.fileno())
    support.record_original_stdout(sys.stdout)
    support.verbose = 1
    support.use_resources = []  # as `python -m test`: no network beyond this machine, nothing very slow
    support.SHORT_TIMEOUT = max(support.SHORT_TIMEOUT, 30.0)
    random.seed(20240229)


def parse_arguments():
    parser = argparse.ArgumentParser(description="Run one of the interpreter's test modules, recording each outcome.")
    parser.add_argument("module", help="such as test_queue")
    parser.add_argument("--events", required=True, help="file the JSON lines are appended to")
    parser.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="leave out tests that match")
    parser.add_argument("--match", action="append", default=[], metavar="GLOB", help="run only tests that match")
    parser.add_argument("--only-file", help="run only the test ids in this file, one a line")
    parser.add_argument("--skip-file", help="leave out the test ids in this file, one a line")
    return parser.parse_args()


def lines_of(path):
    if not path:
        return set()
    with open(path, encoding="utf-8") as file:
        return set(file.read().splitlines())


def start_a_thread():
    """The engine starts with a program's first thread. A suite that creates none would run on plain libc calls
    and prove nothing, so there is one before it starts, in the plain run as well."""
    ended = threading.Event()
    threading.Thread(target=ended.set).start()
    ended.wait()


def main():
    arguments = parse_arguments()
    # The interpreter put this script's folder first on the path; the suites must not find our modules.
    sys.path.pop(0)
    only, skip = lines_of(arguments.only_file), lines_of(arguments.skip_file)
    events = Events(arguments.events)
    events.write("begin", pid=os.getpid())
    prepare_process()

    def wanted(name):
        if any(fnmatch.fnmatchcase(name, f"*{glob}*") for glob in arguments.exclude):
            return False
        if arguments.match and not any(fnmatch.fnmatchcase(name, f"*{glob}*") for glob in arguments.match):
            return False
        return name not in skip and (not arguments.only_file or name in only)

    recorder = Recorder(events)
    with tempfile.TemporaryDirectory(prefix="weft-conformance-", ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        loader = unittest.TestLoader()
        suite = loader.loadTestsFromName("test." + arguments.module)
        if loader.errors:
            sys.exit("\n".join(loader.errors))
        keep_only(suite, wanted)
        start_a_thread()
        suite.run(recorder)
        os.chdir("/")
    events.write("finish")
    sys.exit(0 if recorder.wasSuccessful() else 1)


if __name__ == "__main__":
    main()
