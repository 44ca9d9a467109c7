"""What the driver tests share: running programs/overlap.py while watching the server and the process."""

import json
import time
from pathlib import Path

import compare
import expected
from weft_run import BACKENDS, os_threads

OVERLAP = Path(__file__).resolve().parent / "programs" / "overlap.py"
ENDED = OVERLAP.with_name("ended.py")
MODES = (None, *BACKENDS)  # None: plain
THREADS = 20
SECONDS = 0.5
AT_ONCE = 18  # of THREADS, seen on the server


def run_and_watch(program, count_on_server, at_each_sample=lambda running: None):
    """Lets `program` run to its end; returns (its report, most statements at once on the server, most OS threads)."""
    most_at_once = most_threads = 0
    while program.process.poll() is None:
        running = count_on_server()
        most_at_once = max(most_at_once, running)
        most_threads = max(most_threads, os_threads(program.pid))
        at_each_sample(running)
        time.sleep(0.02)
    code, out, err = program.finish()
    assert code == 0, err
    return json.loads(out), most_at_once, most_threads


def assert_all_were_fibers(program, backend, most_threads):
    stats = program.stats()
    facts = compare.RunFacts(stats, os_threads_peak=most_threads)
    assert compare.check_facts(facts, compare.Expectation(backend, expected.load_pins())) == []
    assert stats["fibers"]["created"] >= THREADS
