"""Mopidy, a music server written for Pykka: all its own tests, unchanged, and the server itself, against weft.actor.

What is the same is measured beside Pykka itself: the same tests pass, the server does the same.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
import wave
from dataclasses import dataclass
from pathlib import Path

import pytest
import suites
from weft_run import BACKENDS, clean_environment, wait_until, weft_program

MOPIDY = suites.Peer("Mopidy", "3.4.2", "ada9ecbfc09eecc8c9e6742a8a4fea1632a134a1ab060527d8aa3d36df0547b6", tests="")

# What Mopidy and its tests import beside Pykka, and what that does.
NEEDED = ("requests==2.34.2", "tornado==6.6.1", "responses==0.26.3", "setuptools==66.1.1",  # has pkg_resources
          "certifi==2026.10.18", "charset-normalizer==3.5.2", "idna==3.20", "PyYAML==6.0.3", "urllib3==2.8.0")
PYKKA = "pykka==4.4.2"

TESTS = 1460

DIFFERENT = {
    "tests.test_help.HelpTest::test_help_has_mopidy_options": "starts another Python, in which nothing stands in for "
                                                              "Pykka",
}


def system_gi():
    """Debian's folder of PyGObject, which PyPI has as sources only."""
    python = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    asked = "import gi; gi.require_version('GstPbutils', '1.0'); print(gi.__path__[0])"
    done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise suites.NotRun(f"{python} has no PyGObject with GStreamer (Debian: python3-gi, "
                            "gir1.2-gst-plugins-base-1.0, gstreamer1.0-plugins-base, gstreamer1.0-plugins-good)")
    return Path(done.stdout.strip())


@dataclass
class Mopidy:
    """Mopidy's sources in a `folder`, and the folders of what they need and of Pykka."""

    folder: Path
    needed: Path
    pykka: Path

    def run(self, **keywords):
        return suites.run(self.folder, HOME=str(self.folder), **keywords)


@pytest.fixture(scope="module")
def mopidy(tmp_path_factory):
    try:
        gi, sources = system_gi(), suites.fetch(MOPIDY)
        needed, pykka = suites.packages("mopidy", *NEEDED), suites.packages("pykka", PYKKA)
    except suites.NotRun as reason:
        pytest.skip(f"not run: {reason}")
    folder = tmp_path_factory.mktemp("mopidy")
    shutil.copytree(sources, folder, dirs_exist_ok=True)
    (folder / "gi").symlink_to(gi)
    return Mopidy(folder, needed, pykka)


@pytest.fixture(scope="module")
def with_pykka(mopidy):
    theirs = mopidy.run(plugin="count_threads", path=[mopidy.needed, mopidy.pykka])
    assert not theirs.failed and not theirs.skipped and len(theirs.passed) == TESTS, theirs.output
    return theirs


def check(ours, theirs):
    assert ours.failed == set(DIFFERENT), ours.output
    assert ours.passed == theirs.passed - set(DIFFERENT)
    assert not ours.skipped


def test_on_os_threads(mopidy, with_pykka):
    ours = mopidy.run(path=[mopidy.needed])
    check(ours, with_pykka)
    assert ours.fibers == 0 and ours.natives > 500


@pytest.mark.parametrize("backend", BACKENDS)
def test_on_fibers(mopidy, with_pykka, backend):
    ours = mopidy.run(weft=[weft_program(), "run", f"--backend={backend}"], path=[mopidy.needed])
    check(ours, with_pykka)
    assert ours.natives == 0 and ours.fibers > 500


# The server: its HTTP frontend, its file backend, GStreamer, and a frontend of ours, all of them actors.

START = """
import sys
if sys.argv.pop(1) == "weft.actor":
    import weft.actor
    weft.actor.install_as_pykka()
import mopidy.__main__
sys.exit(mopidy.__main__.main())
"""

CONFIGURATION = """
[audio]
output = fakesink sync=true
[file]
media_dirs = {songs}
[http]
port = {port}
zeroconf =
"""


@dataclass
class Server:
    process: subprocess.Popen
    port: int
    songs: Path
    output: Path

    def ask(self, method, **parameters):
        """The answer to a call of JSON-RPC, which Mopidy passes on to a proxy."""
        call = {"jsonrpc": "2.0", "id": 1, "method": f"core.{method}", "params": parameters}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/mopidy/rpc", json.dumps(call).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def get(self, method, **parameters):
        answer = self.ask(method, **parameters)
        assert "error" not in answer, answer
        return answer["result"]

    def add(self, song):
        (added,) = self.get("tracklist.add", uris=[(self.songs / song).as_uri()])
        return added["tlid"]

    def has_said(self, line):
        wait_until(lambda: line in self.said(), what=line)

    def said(self):
        return self.output.read_text().splitlines()


@pytest.fixture
def start_server(mopidy, tmp_path):
    """start_server(api, *weft): Mopidy on that API, once it serves."""
    # Mopidy finds extensions, and sees whether what they need is there, by the metadata of packages.
    site, home = tmp_path / "site", tmp_path / "home"
    metadata = site / "mopidy_scrobbler-1.dist-info"
    metadata.mkdir(parents=True)
    home.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mopidy-scrobbler\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[mopidy.ext]\nscrobbler = mopidy_scrobbler:Extension\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    songs = tmp_path / "songs"
    songs.mkdir()
    for name, seconds in (("long", 5), ("short", 0.3)):
        with wave.open(str(songs / f"{name}.wav"), "wb") as song:
            song.setparams((1, 2, 8000, 0, "NONE", None))
            song.writeframes(bytes(int(seconds * 8000) * 2))
    configuration, output = tmp_path / "mopidy.conf", tmp_path / "output"
    configuration.write_text(CONFIGURATION.format(songs=songs, port=port))
    processes = []

    def start(api, *weft):
        path = [Path(__file__).parent, site, mopidy.folder, mopidy.needed, mopidy.pykka]
        with output.open("w") as stdout:
            process = subprocess.Popen(
                [*weft, sys.executable, "-c", START, api, "--config", configuration], text=True, stdout=stdout,
                stderr=subprocess.PIPE,
                env=clean_environment(HOME=str(home), PYTHONPATH=os.pathsep.join(map(str, path))))
        processes.append(process)
        server = Server(process, port, songs, output)
        wait_until(lambda: process.poll() is not None or serves(server), what="a Mopidy that answers")
        assert process.poll() is None, process.communicate()[1]
        return server

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def serves(server):
    with contextlib.suppress(OSError):
        return server.get("get_version")


def play(server):
    """What a listener does; returns the lines of the frontend."""
    assert server.get("get_uri_schemes") == ["file", "http", "https", "m3u", "rtsp"]
    server.get("playback.play", tlid=server.add("long.wav"))
    wait_until(lambda: server.get("playback.get_time_position") > 0, what="time passing")
    assert server.get("playback.get_state") == "playing"
    assert server.get("playback.get_current_track")["length"] == 5000
    server.get("playback.pause")
    assert server.get("playback.get_state") == "paused"
    server.get("playback.resume")
    assert server.get("playback.seek", time_position=4700)
    server.has_said("ended long.wav then None")
    assert server.get("mixer.set_volume", volume=55) and server.get("mixer.get_volume") == 55

    server.get("playback.play", tlid=server.add("short.wav"))
    server.has_said("ended short.wav then None")
    assert server.get("playback.get_state") == "stopped"
    assert server.get("history.get_length") == 2

    assert server.ask("playback.nonsense")["error"]["message"] == "Method not found"
    wrong = server.ask("playback.seek", time_position="soon")["error"]
    assert wrong["data"]["type"] == "ValidationError" and "Traceback" in wrong["data"]["traceback"]

    server.process.send_signal(signal.SIGTERM)
    _, err = server.process.communicate(timeout=20)
    assert server.process.returncode == 0, err
    assert "Traceback" not in err and "threads still running" not in err
    return server.said()


SCROBBLED = ["started long.wav", "ended long.wav then None", "started short.wav", "ended short.wav then None",
             "frontend stopped"]


@pytest.mark.parametrize("api", ["pykka", "weft.actor"])
def test_server_on_os_threads(start_server, api):
    said, *scrobbled = play(start_server(api))
    assert said == f"frontend of {api} on an OS thread"
    assert scrobbled == SCROBBLED


@pytest.mark.parametrize("backend", BACKENDS)
def test_server_on_fibers(start_server, backend, tmp_path):
    counted = tmp_path / "stats.json"
    said, *scrobbled = play(start_server("weft.actor", weft_program(), "run", f"--backend={backend}",
                                         f"--stats-file={counted}"))
    assert said == "frontend of weft.actor on a fiber"
    assert scrobbled == SCROBBLED
    stats = json.loads(counted.read_text())
    assert stats["native_threads"] == 0 and stats["fibers"]["created"] > 8  # GStreamer's own threads are not counted
