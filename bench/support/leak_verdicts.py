"""Verdicts of weft.leaks and psleak on the functions of tests/support/leak_corpus.py, each in a process of its own.

As a program it is the worker of one library: it answers each line "SORT SEED LIMIT" with one of JSON, [kind, leaks,
seconds] or null.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
import unittest
import warnings
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))
PSLEAK = ("psleak==0.1.5", "psutil==7.2.2")
SORTS = ("clean", "leaking")


@dataclass(frozen=True)
class Verdict:
    sort: str
    """One of SORTS."""
    kind: str
    leaks: bool | None
    """None: there was none within the limit."""
    seconds: float

    @property
    def wrong(self):
        return self.leaks != (self.sort == "leaking")


def _by_weft(function):
    from weft import leaks

    return leaks.check(function, checkers=leaks.Checkers.only("memory"), search=False).leaks


def _by_psleak(function):
    import psleak

    class Case(psleak.MemoryLeakTestCase):
        checkers = psleak.Checkers.only("memory")

    try:
        Case().execute(function)
    except psleak.MemoryLeakError:
        return True
    except unittest.SkipTest as reason:
        raise SystemExit(f"psleak skipped it: {reason}") from None
    return False


def _verdict(judge, function, limit):
    """(leaks, seconds), from a child: what leaks is gone with it. None: it failed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        start = time.perf_counter()
        found = judge(function)
        os.write(writer, json.dumps([found, time.perf_counter() - start]).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        in_time = bool(select.select([stream], [], [], limit)[0])
        if not in_time:
            os.kill(child, signal.SIGKILL)
        answer = stream.read()
    os.waitpid(child, 0)
    if not in_time:
        return None, limit
    return json.loads(answer) if answer else None


def _work(name, folder):
    warnings.simplefilter("ignore")
    import leak_corpus

    leaky = leak_corpus.build(folder)
    judge = {"weft": _by_weft, "psleak": _by_psleak}[name]
    judge(lambda: None)  # whatever it makes once
    for line in sys.stdin:
        sort, seed, limit = line.split()
        kind, function = leak_corpus.clean(int(seed)) if sort == "clean" else leak_corpus.leaking(int(seed), leaky)
        found = _verdict(judge, function, float(limit))
        print(json.dumps(found and [kind, *found]), flush=True)


class Worker:
    """The process that has one of the libraries, "weft" or "psleak". `python` can import it; `folder` is for what is
    compiled."""

    def __init__(self, name, python, folder):
        self.name, self.verdicts = name, []
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        if name == "psleak":
            environment |= {"PYTHONMALLOC": "malloc"}
        self.process = subprocess.Popen(
            [python, __file__, name, folder], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, sort, seed, limit=600.0):
        """Adds a verdict. SystemExit: there is none, for another reason than the limit."""
        try:
            self.process.stdin.write(f"{sort} {seed} {limit}\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise SystemExit(f"leak verdicts: the worker of {self.name} ended")
        found = json.loads(answer)
        if found is None:
            raise SystemExit(f"leak verdicts: {self.name} failed at {sort} {seed}")
        self.verdicts.append(Verdict(sort, *found))

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


if __name__ == "__main__":
    _work(*sys.argv[1:])
