"""psycopg2, unmodified, against a real PostgreSQL: what runs at once is counted on the server."""

import json
import subprocess
import sys

import psycopg2
import pytest

import driving

RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'overlap-%%' AND state = 'active'"


@pytest.fixture
def watcher(postgres):
    """A cursor of this plain process, to look at the server with."""
    connection = psycopg2.connect(postgres.dsn)
    connection.autocommit = True
    yield connection.cursor()
    connection.close()


def start(start_program, postgres, seconds, **how):
    return start_program(driving.OVERLAP, "psycopg2", "--port", postgres.port, "--threads", driving.THREADS,
                         "--statement", f"SELECT pg_sleep({seconds})", **how)


def running(watcher):
    watcher.execute(RUNNING)
    return watcher.fetchone()[0]


def test_statements_overlap_on_the_server(start_program, postgres, watcher, backend):
    program = start(start_program, postgres, driving.SECONDS, backend=backend)
    report, at_once, threads = driving.run_and_watch(program, lambda: running(watcher))
    assert report["results"] == ["ok"] * driving.THREADS
    assert report["seconds"] < driving.THREADS * driving.SECONDS / 4
    assert at_once >= driving.AT_ONCE
    driving.assert_all_were_fibers(program, backend, threads)


def test_the_counting_itself_plain(start_program, postgres, watcher):
    """OS threads overlap too, and the program then has twenty of them: the measure measures."""
    program = start(start_program, postgres, driving.SECONDS)
    report, at_once, threads = driving.run_and_watch(program, lambda: running(watcher))
    assert report["results"] == ["ok"] * driving.THREADS
    assert at_once >= driving.AT_ONCE
    assert threads > driving.THREADS


@pytest.mark.parametrize("mode", driving.MODES, ids=str)
def test_a_terminated_backend_fails_its_own_thread_only(start_program, postgres, watcher, mode):
    victim = 7
    program = start(start_program, postgres, 2, backend=mode)
    terminated = []

    def terminate_once(count):
        if count == driving.THREADS and not terminated:
            watcher.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
                            (f"overlap-{victim}",))
            terminated.append(watcher.fetchone()[0])

    report, _, _ = driving.run_and_watch(program, lambda: running(watcher), terminate_once)
    assert terminated == [True]
    results = report["results"]
    assert results[victim].startswith(("OperationalError", "AdminShutdown"))
    assert results[:victim] + results[victim + 1:] == ["ok"] * (driving.THREADS - 1)


def test_what_is_ended_says_so(postgres):
    """Not by an error of the driver's, which calls Python code of its own on the way out."""
    done = subprocess.run([sys.executable, driving.ENDED, postgres.dsn], capture_output=True, text=True, timeout=100,
                          check=False)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert len(outcomes) == 8
    for name, outcome in outcomes.items():
        assert outcome == ("Cancelled" if name.startswith("ended_by_cancel") else "Timeout"), outcomes
