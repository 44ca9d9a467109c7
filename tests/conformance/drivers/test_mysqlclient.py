"""mysqlclient, unmodified, against a real MariaDB: what runs at once is counted on the server."""

import MySQLdb
import pytest

import driving

RUNNING = "SELECT id FROM information_schema.processlist WHERE command = 'Query' AND info LIKE 'SELECT SLEEP(%%'"


@pytest.fixture
def watcher(mariadb):
    """A cursor of this plain process, to look at the server with."""
    connection = MySQLdb.connect(host="127.0.0.1", port=mariadb.port, user="root")
    yield connection.cursor()
    connection.close()


def start(start_program, mariadb, seconds, **how):
    return start_program(driving.OVERLAP, "mysqlclient", "--port", mariadb.port, "--threads", driving.THREADS,
                         "--statement", f"SELECT SLEEP({seconds})", **how)


def running(watcher):
    watcher.execute(RUNNING)
    return [row[0] for row in watcher.fetchall()]


def test_statements_overlap_on_the_server(start_program, mariadb, watcher, backend):
    program = start(start_program, mariadb, driving.SECONDS, backend=backend)
    report, at_once, threads = driving.run_and_watch(program, lambda: len(running(watcher)))
    assert report["results"] == ["ok"] * driving.THREADS
    assert report["seconds"] < driving.THREADS * driving.SECONDS / 4
    assert at_once >= driving.AT_ONCE
    driving.assert_all_were_fibers(program, backend, threads)


def test_the_counting_itself_plain(start_program, mariadb, watcher):
    """OS threads overlap too, and the program then has twenty of them: the measure measures."""
    program = start(start_program, mariadb, driving.SECONDS)
    report, at_once, threads = driving.run_and_watch(program, lambda: len(running(watcher)))
    assert report["results"] == ["ok"] * driving.THREADS
    assert at_once >= driving.AT_ONCE
    assert threads > driving.THREADS


@pytest.mark.parametrize("mode", driving.MODES, ids=str)
def test_a_killed_connection_fails_its_own_thread_only(start_program, mariadb, watcher, mode):
    program = start(start_program, mariadb, 2, backend=mode)
    killed = []

    def kill_once(count):
        if count == driving.THREADS and not killed:
            killed.append(running(watcher)[0])
            watcher.execute(f"KILL CONNECTION {killed[0]}")

    report, _, _ = driving.run_and_watch(program, lambda: len(running(watcher)), kill_once)
    assert len(killed) == 1
    failed = [result for result in report["results"] if result != "ok"]
    assert len(failed) == 1 and failed[0].startswith("OperationalError"), report["results"]
