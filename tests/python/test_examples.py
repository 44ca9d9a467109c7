"""The examples run, plain and under weft, and do what they say."""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from weft_run import BACKENDS, ROOT, clean_environment, os_threads, weft_program

MODES = (None, *BACKENDS)  # None: plain
CLIENTS = 200


class SlowServer:
    def __init__(self, process, stats_file):
        self.process, self.stats_file = process, stats_file
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert found, line + process.stderr.read()
        self.port = int(found.group(1))

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def interrupt(self):
        """Ctrl-C; returns (seconds until the end, exit code, rest of the output, errors)."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=20)
        return time.monotonic() - started, self.process.returncode, out, err


@pytest.fixture(params=MODES, ids=str)
def slow_server(request, tmp_path):
    command = [sys.executable, "-u", str(ROOT / "examples" / "slow_server.py"), "--port", "0"]
    stats_file = None
    if request.param:
        stats_file = tmp_path / "stats.json"
        command = [weft_program(), "run", f"--backend={request.param}", f"--stats-file={stats_file}", *command]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=clean_environment())
    try:
        yield SlowServer(process, stats_file)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def get(connection, path):
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_slow_server_keeps_connections_and_refuses_nonsense(slow_server):
    connection = slow_server.connect()
    for number in (1, 500):
        status, body = get(connection, f"/greeting?id={number}")
        assert (status, json.loads(body)) == (200, {"id": number, "greeting": f"hello, number {number}"})
    assert get(connection, "/greeting?id=1001")[0] == 404
    assert get(connection, "/elsewhere")[0] == 404
    assert get(connection, "/greeting?id=x")[0] == 400
    connection.close()


def test_slow_server_serves_its_clients_at_the_same_time(slow_server):
    """Every client is connected at once; under weft that takes no OS thread for any of them."""
    connected = threading.Barrier(CLIENTS + 1, timeout=60)
    statuses = []

    def client():
        connection = slow_server.connect()
        get(connection, "/greeting?id=1")
        connected.wait()
        connected.wait()
        statuses.append(get(connection, "/greeting?id=2")[0])
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    connected.wait()
    server_threads = os_threads(slow_server.process.pid)
    started = time.monotonic()
    connected.wait()
    for thread in threads:
        thread.join()
    assert statuses == [200] * CLIENTS
    assert time.monotonic() - started < CLIENTS * 0.1 / 2
    if slow_server.stats_file is None:
        assert server_threads > CLIENTS
        return
    _, code, _, err = slow_server.interrupt()
    assert code == 0, err
    stats = json.loads(slow_server.stats_file.read_text())
    assert stats["fibers"]["peak"] >= CLIENTS
    assert stats["native_threads"] == 0
    assert server_threads <= stats["carriers"] + stats["pool_threads_peak"] + 2


def test_slow_server_ends_cleanly_on_interrupt(slow_server):
    connection = slow_server.connect()
    assert get(connection, "/greeting?id=1")[0] == 200  # and the connection stays open, its thread waiting
    seconds, code, out, err = slow_server.interrupt()
    assert (code, out, err) == (0, "stopped\n", "")
    assert seconds < 5


def test_demo_measures_two_servers_and_draws(tmp_path):
    picture = tmp_path / "demo.png"
    done = subprocess.run([sys.executable, ROOT / "scripts" / "demo", "--weft", weft_program(), "--clients", "100",
                           "--seconds", "1", "--warmup", "2", "--output", picture], capture_output=True, text=True,
                          timeout=120, env=clean_environment(COLUMNS="120"), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for row in ("requests/s", "p50", "p99", "clients served", "connections reset or refused", "requests timed out",
                "bad answers", "memory (RSS)", "memory for each client served", "OS threads"):
        assert row in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("options, complaint", [
    (["--clients", "0"], "must be positive"),
    (["--weft", "/nowhere/weft"], "no weft at /nowhere/weft"),
])
def test_demo_refuses_nonsense(options, complaint):
    done = subprocess.run([sys.executable, ROOT / "scripts" / "demo", *options], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2 and complaint in done.stderr
