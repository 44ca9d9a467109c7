"""The examples run, plain and under weft, and do what they say."""

import contextlib
import http.client
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from weft_run import BACKENDS, ROOT, clean_environment, os_threads, wait_until, weft_program

LANGUAGES = ("python", "cpp")
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


# The examples of the library, most in both languages.


def example(language, name, python=(), cpp=()):
    """The command that runs an example; both take the same parameters, in the manner of their language."""
    if language == "python":
        return [sys.executable, str(ROOT / "examples" / "python" / f"{name}.py"), *map(str, python)]
    program = ROOT / "build" / "examples" / "cpp" / name
    if not os.access(program, os.X_OK):
        pytest.fail(f"no {program}: build the target weft_examples", pytrace=False)
    return [str(program), *map(str, cpp)]


def run_example(*arguments, code=0, **keywords):
    """What it wrote, (output, errors), after it ended with `code`."""
    done = subprocess.run(example(*arguments, **keywords), capture_output=True, text=True, timeout=60, check=False,
                          env=clean_environment())
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


@contextlib.contextmanager
def started(*arguments, **keywords):
    """Runs it until it ends, or the block does."""
    with subprocess.Popen(example(*arguments, **keywords), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=clean_environment()) as process:
        try:
            yield process
        finally:
            process.kill()


def interrupt(process):
    """Ctrl-C; returns (exit code, rest of the output, errors)."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


@pytest.fixture
def site():
    """Serves `pages`, by path; the path /hangs is never answered."""
    over = threading.Event()

    class Site(http.server.ThreadingHTTPServer):
        request_queue_size = 128
        pages = {}

        @property
        def base(self):
            return f"http://127.0.0.1:{self.server_port}"

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/hangs":
                over.wait()
                return
            self.send_response(200 if self.path in self.server.pages else 404)
            self.end_headers()
            self.wfile.write(self.server.pages.get(self.path, "").encode())

        def log_message(self, *_):
            pass

    with Site(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        over.set()
        server.shutdown()
        thread.join()


def silent_listener(stack):
    """A port whose queue is full: it answers nobody."""
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    for _ in range(4):
        client = stack.enter_context(socket.socket())
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
    return listener.getsockname()[1]


def scan(language, first, last, seconds=20):
    return run_example(language, "port_scanner", ["--ports", f"{first}-{last}", "--timeout", seconds],
                       ["127.0.0.1", first, last, 200, seconds])[0]


@pytest.mark.parametrize("language", LANGUAGES)
def test_port_scanner_tells_open_from_closed_and_silent(language):
    with contextlib.ExitStack() as stack:
        ports = []
        for listens in (True, False):
            server = stack.enter_context(socket.socket())
            server.bind(("127.0.0.1", 0))
            if listens:
                server.listen()
            ports.append(server.getsockname()[1])
        silent = silent_listener(stack)
        assert scan(language, ports[0], ports[0]) == f"{ports[0]} open\n1 open, 0 closed, 0 silent\n"
        assert scan(language, ports[1], ports[1]) == "0 open, 1 closed, 0 silent\n"
        assert scan(language, silent, silent, 0.2) == "0 open, 0 closed, 1 silent\n"
        several = scan(language, max(ports[0] - 500, 1), min(ports[0] + 500, 65535), 5)
        assert f"{ports[0]} open\n" in several


@pytest.mark.parametrize("language", LANGUAGES)
def test_port_scanner_says_what_is_wrong(language):
    _, err = run_example(language, "port_scanner", ["no such host"], ["no such host"], code=1)
    assert err.startswith("port_scanner: ")


@pytest.mark.parametrize("language", LANGUAGES)
def test_crawler_fetches_every_page_of_the_site_once(language, site):
    site.pages = {"/": '<a href="/a"> <a href="/b#part"> <a href="http://elsewhere.invalid/">', "/a": '<a href="/b">',
                  "/b": '<a href="/c"> <a href="/">', "/c": '<a href="/missing">'}
    out, _ = run_example(language, "crawler", [site.base + "/"], [site.base + "/"])
    *lines, last = out.splitlines()
    found = dict(line.removeprefix(site.base).split(": ", 1) for line in lines)
    assert len(lines) == 5 and sorted(found) == ["/", "/a", "/b", "/c", "/missing"]
    assert found["/a"] == "13 characters" and "404" in found["/missing"] and last == "5 pages"
    out, _ = run_example(language, "crawler", [site.base + "/", "--pages", 2], [site.base + "/", 1, 2])
    assert out.splitlines()[-1] == "2 pages"


@pytest.mark.parametrize("language", LANGUAGES)
def test_crawler_brings_a_site_along(language):
    lines = run_example(language, "crawler")[0].splitlines()
    assert lines[-1] == "43 pages" and len(lines) == 44


@pytest.mark.parametrize("language", LANGUAGES)
def test_fan_out_takes_what_came_by_the_deadline(language, site):
    site.pages = {"/one": "first", "/two": "second"}
    urls = [f"{site.base}{path}" for path in ("/one", "/hangs", "/two", "/missing")]
    begun = time.monotonic()
    out, _ = run_example(language, "fan_out", ["--deadline", 2, *urls], [2, *urls])
    assert 2 <= time.monotonic() - begun < 20
    *answers, last = out.splitlines()
    assert last == "3 of 4 answers"
    assert {f"{urls[0]}: first", f"{urls[2]}: second"} < set(answers) and "404" in out
    out, _ = run_example(language, "fan_out", ["--deadline", 0.1, urls[1]], [0.1, urls[1]], code=1)
    assert out == "0 of 1 answers\n"


@pytest.mark.parametrize("language", LANGUAGES)
def test_fan_out_does_not_wait_for_the_deadline_when_all_have_answered(language, site):
    site.pages = {"/one": "first"}
    assert run_example(language, "fan_out", ["--deadline", 600, f"{site.base}/one"],
                       [600, f"{site.base}/one"])[0] == f"{site.base}/one: first\n1 of 1 answers\n"


@pytest.mark.parametrize("language", LANGUAGES)
def test_pipeline_finds_copies_among_more_files_than_its_channels_hold(language, tmp_path):
    (tmp_path / "below").mkdir()
    for number in range(100):
        (tmp_path / f"{number}").write_text(f"{number % 98}")
    (tmp_path / "below" / "copy").write_text("50")
    for readers in (1, 8):
        out, _ = run_example(language, "pipeline", [tmp_path, "--readers", readers], [tmp_path, readers])
        *lines, last = out.splitlines()
        assert last == "101 files, 98 different ones"
        found = {frozenset(line.replace(f"{tmp_path}/", "").split(" is the same as ")) for line in lines}
        assert found == {frozenset(pair) for pair in (("0", "98"), ("1", "99"), ("50", "below/copy"))}


@pytest.mark.parametrize("language, code", [("python", 2), ("cpp", 1)])
def test_pipeline_refuses_what_is_no_folder(language, code):
    assert "/nowhere" in run_example(language, "pipeline", ["/nowhere"], ["/nowhere"], code=code)[1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_dashboard_gives_each_endpoint_its_time(language, site):
    site.pages = {"/fine": "all well"}
    urls = [f"{site.base}{path}" for path in ("/fine", "/hangs", "/missing")]
    out, _ = run_example(language, "dashboard", ["--rounds", 2, "--timeout", 1, "--interval", 0.1, *urls],
                         [2, 1, *urls])
    rounds = re.split(r"round \d.*\n", out)[1:]
    assert len(rounds) == 2
    for table in rounds:
        rows = table.splitlines()
        assert [row.split()[0] for row in rows] == urls
        assert "all well" in rows[0] and "no answer in time" in rows[1] and "404" in rows[2]


@pytest.mark.parametrize("language", LANGUAGES)
def test_dashboard_runs_until_interrupted(language, site):
    site.pages = {"/fine": "all well"}
    urls = [f"{site.base}/fine"]
    with started(language, "dashboard", urls, [0, 5, *urls]) as dashboard:
        for _ in range(4):  # two rounds
            assert dashboard.stdout.readline()
        code, _, err = interrupt(dashboard)
        assert (code, err) == (0, "")


@contextlib.contextmanager
def chat_client(port, name):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        with connection.makefile("rw") as lines:
            print(name, file=lines, flush=True)
            assert lines.readline() == f"* {name} is here\n"
            yield lines


@pytest.mark.parametrize("language", LANGUAGES)
def test_chat_server_tells_everybody_and_ends_on_interrupt(language):
    with started(language, "chat_server", ["--port", 0], [0]) as server:
        port = int(re.search(r":(\d+)$", server.stdout.readline()).group(1))
        with chat_client(port, "ann") as ann:
            with chat_client(port, "bob") as bob:
                assert ann.readline() == "* bob is here\n"
                for speaker, name in ((bob, "bob"), (ann, "ann")):
                    print("hello", file=speaker, flush=True)
                    assert [ann.readline(), bob.readline()] == [f"{name}: hello\n"] * 2
            assert ann.readline() == "* bob has left\n"
            assert interrupt(server) == (0, "stopped\n", "")
            assert ann.readline() == ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_chat_server_says_that_its_port_is_taken(language):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        _, err = run_example(language, "chat_server", ["--port", port], [port], code=1)
        assert err.startswith("chat_server: ") and "in use" in err


@pytest.fixture
def rows(postgres):
    """rows(): what is in the table that bulk_loader fills: (how many, sum of their numbers)."""
    import psycopg2

    def ask(query):
        with contextlib.closing(psycopg2.connect(postgres.dsn)) as connection:
            with connection, connection.cursor() as cursor:
                cursor.execute(query)
                return cursor.fetchone() if cursor.description else None

    yield lambda: ask("SELECT count(*), sum(id) FROM weft_rows")
    ask("DROP TABLE weft_rows")


@pytest.mark.parametrize("language", LANGUAGES)
def test_bulk_loader_loads_every_row_once(language, postgres, rows):
    first = {"python": ["--dsn", postgres.dsn, "--rows", 50000, "--connections", 4], "cpp": [postgres.dsn, 50000, 4]}
    assert run_example(language, "bulk_loader", **first)[0] == "50000 rows loaded\n"
    assert rows() == (50000, sum(range(50000)))
    alone = {"python": ["--dsn", postgres.dsn, "--connections", 1], "cpp": [postgres.dsn, 100000, 1]}
    out, err = run_example(language, "bulk_loader", **alone, code=1)  # they are there already
    assert out == "" and "bulk_loader: " in err and "duplicate key" in err
    assert rows() == (50000, sum(range(50000)))


def test_bulk_loader_reads_a_file(postgres, rows, tmp_path):
    (tmp_path / "rows.csv").write_text('7,seven\n8,"eight, or so"\n')
    out, _ = run_example("python", "bulk_loader", ["--dsn", postgres.dsn, tmp_path / "rows.csv"])
    assert out == "2 rows loaded\n" and rows() == (2, 15)


@pytest.mark.parametrize("language", LANGUAGES)
def test_bulk_loader_says_that_there_is_no_database(language):
    dsn = "host=127.0.0.1 port=1"
    _, err = run_example(language, "bulk_loader", ["--dsn", dsn], [dsn], code=1)
    assert err.startswith("bulk_loader: ") and "refused" in err


def play(*options):
    """What the console of music_player said: (what, about what)."""
    out, err = run_example("python", "music_player", options)
    assert err == ""
    *lines, last = out.splitlines()
    assert last == "stopped"
    return [tuple(line.split(maxsplit=1)) for line in lines]


def scrobbled(said):
    return [name for what, names in said if what == "scrobbled" for name in names.split(", ")]


def test_music_player_plays_pauses_skips_and_reports():
    said = play("--tracks", 5, "--broken", 4, "--length", 0.4)
    assert said[:3] == [("queued", "5 tracks, 2.00 s"), ("refused", "there is no song:nowhere"), ("playing", "Song 1")]
    assert [what for what, _ in said[3:6]] == ["paused", "playing", "ended"]  # the last by skipping
    heard = [(what, about[:6]) for what, about in said[6:] if what != "scrobbled"]
    assert heard == [("playing", "Song 2"), ("ended", "Song 2"), ("playing", "Song 3"), ("ended", "Song 3"),
                     ("failed", "Song 4"), ("playing", "Song 5"), ("ended", "Song 5"),
                     ("playing", "Song 5"), ("refused", "nothin")]
    assert ("ended", "Song 3 after 0.40 of 0.40 s") in said
    assert ("failed", "Song 4 cannot be decoded") in said and ("refused", "nothing follows Song 5") in said
    assert scrobbled(said) == ["Song 2", "Song 3", "Song 5"]


def test_music_player_goes_on_when_nothing_can_be_played():
    said = play("--tracks", 1, "--broken", 1)
    assert said[2:] == [("failed", "Song 1 cannot be decoded"), *[("refused", "nothing is playing")] * 3,
                        ("failed", "Song 1 cannot be decoded"), ("refused", "nothing is playing")]


def test_music_player_refuses_an_empty_list():
    assert "must be a track" in run_example("python", "music_player", ["--tracks", 0], code=2)[1]


def bank(*options, code=0):
    """What bank.py said of its run, by subject."""
    out, err = run_example("python", "bank", options, code=code)
    assert err == ""
    given_up, transfers, faults, *frozen, letters, money = out.splitlines()
    assert given_up == "a careful audit was given up after 0.05 s" and letters.endswith(" dead letters")
    return {
        "transfers": {what: int(count) for count, what in re.findall(r"(\d+) (\w+)", transfers.partition(":")[2])},
        "faults": int(faults.split()[0]),
        "made anew": int(re.search(r"made anew (\d+) times", faults).group(1)),
        "sent again": int(re.search(r"(\d+) entries sent again", faults).group(1)),
        "frozen": frozen,
        "money": money,
    }


def test_bank_carries_out_every_order_although_accounts_fail():
    said = bank("--transfers", 300, "--faults", 40, "--spoiled", 0)
    assert set(said["transfers"]) <= {"done", "refused"} and sum(said["transfers"].values()) == 300
    assert said["faults"] == said["made anew"] == 40 and said["sent again"] >= 40
    assert said["frozen"] == [] and said["money"] == "8000 of 8000 are there"


def test_bank_goes_on_without_the_accounts_whose_ledgers_it_cannot_read():
    said = bank("--accounts", 4, "--transfers", 400, "--faults", 10, "--spoiled", 2)
    assert said["faults"] == 12 and said["made anew"] == 10 + 2 * 3
    assert [line.partition(" says ")[2] for line in said["frozen"]] == ["'scribble'"] * 2
    assert said["transfers"]["returned"] > 0 and sum(said["transfers"].values()) == 400
    assert said["money"] == "4000 of 4000 are there"


def test_bank_goes_on_from_its_ledgers(tmp_path):
    first = bank("--ledger", tmp_path, "--spoiled", 0)
    assert first["money"] == "8000 of 8000 are there"
    ledger = tmp_path / "2.ledger"
    lines = ledger.read_text()
    ledger.write_text(lines + "7 x\n")
    second = bank("--ledger", tmp_path, "--spoiled", 0, "--seed", 2)
    assert second["frozen"] == ["account 2 is frozen: 2.ledger says '7 x'"]
    assert second["money"] == "8000 of 8000 are there"
    assert ledger.read_text() == lines + "7 x\n"


def test_bank_notices_that_money_is_missing(tmp_path):
    quiet = ["--ledger", tmp_path, "--transfers", 0, "--faults", 0, "--spoiled", 0]
    assert bank(*quiet)["money"] == "8000 of 8000 are there"
    (tmp_path / "3.ledger").write_text("0 900\n")
    assert bank(*quiet, code=1)["money"] == "7900 of 8000 are there"


def test_bank_ends_on_interrupt_with_nothing_on_its_way(tmp_path):
    ledger = tmp_path / "1.ledger"
    with started("python", "bank", ["--ledger", tmp_path, "--transfers", 10**6]) as process:
        wait_until(lambda: ledger.exists() and ledger.read_text().count("\n") > 5, what="an entry")
        assert interrupt(process) == (130, "", "")
    said = bank("--ledger", tmp_path, "--transfers", 0, "--faults", 0, "--spoiled", 0)
    assert said["money"] == "8000 of 8000 are there"


@pytest.mark.parametrize("options, complaint", [
    (["--accounts", 1], "there must be two accounts"),
    (["--transfers", 5, "--faults", 6], "no more faults than transfers"),
    (["--nonsense"], "unrecognized arguments"),
])
def test_bank_refuses_nonsense(options, complaint):
    assert complaint in run_example("python", "bank", options, code=2)[1]


def test_bank_refuses_the_ledgers_of_another_bank(tmp_path):
    (tmp_path / "0.ledger").touch()
    _, err = run_example("python", "bank", ["--ledger", tmp_path], code=2)
    assert "another number of accounts" in err


def averages(lines):
    """{sensor: (how many readings, their sum)} of what actor_pipeline wrote."""
    found = {}
    for sensor, count, mean in re.findall(r"sensor (\d+): (\d+) readings, (-?[\d.]+) on average", lines):
        readings, total = found.get(int(sensor), (0, 0))
        found[int(sensor)] = (readings + int(count), total + int(count) * float(mean))
    return found


def test_actor_pipeline_makes_parsers_anew_and_loses_no_other_record():
    out, err = run_example("cpp", "actor_pipeline", cpp=["--records", 20000, "--bad", 500, "--parsers", 6])
    assert sum(count for count, _ in averages(out).values()) == 19500
    assert re.search(r"parsers +6 actors, 20000 messages, 500 failed, made anew 500 times", out)
    assert out.endswith("20000 records, 500 of them rejected, 0 dead letters\n")
    assert err.count("\n") == 1 and "this is no record" in err


def test_actor_pipeline_reads_a_file(tmp_path):
    (tmp_path / "readings").write_text("1 2\n1 -4\nno record\n3 5\n3\n\n2 6 7\n2 8")
    out, _ = run_example("cpp", "actor_pipeline", cpp=[tmp_path / "readings"])
    assert averages(out) == {1: (2, -2), 2: (1, 8), 3: (1, 5)}
    assert out.endswith("8 records, 4 of them rejected, 0 dead letters\n")


def test_actor_pipeline_handles_what_was_read_before_an_interrupt():
    with started("cpp", "actor_pipeline", cpp=["--records", 10**12]) as process:
        out = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out += process.stdout.read()  # and not interrupt(), which skips what is in this buffer
        assert process.wait(timeout=20) == 0
    records, rejected = map(int, re.search(r"(\d+) records, (\d+) of them rejected, 0 dead", out).groups())
    assert sum(count for count, _ in averages(out).values()) == records - rejected > 0


@pytest.mark.parametrize("options, code, complaint", [
    (["--nonsense"], 2, "Usage: actor_pipeline"),
    (["--parsers", 0], 2, "Usage: actor_pipeline"),
    (["one", "two"], 2, "Usage: actor_pipeline"),
    (["/nowhere"], 1, "actor_pipeline: cannot open /nowhere"),
])
def test_actor_pipeline_refuses_nonsense(options, code, complaint):
    assert complaint in run_example("cpp", "actor_pipeline", cpp=options, code=code)[1]


def test_actor_pipeline_tells_how_it_is_called():
    assert run_example("cpp", "actor_pipeline", cpp=["--help"])[0].startswith("Usage: actor_pipeline [--records N]")
