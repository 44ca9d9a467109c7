"""--stats and --stats-file: what is written, by which process, and when."""

import json
import os
import tempfile
from pathlib import Path

import pytest

THREADS = """
import threading, time
threads = [threading.Thread(target=time.sleep, args=(0.3,)) for _ in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
FORK = "import os, sys\nif os.fork() == 0: sys.exit(0)\nos.wait()\n"
KEYS = {"pid", "python", "backend", "routing", "carriers", "pool_threads_peak", "native_threads", "fibers", "switches",
        "parks", "pins", "preemptions", "stalls", "peak_rss_kib"}


@pytest.fixture
def stats(weft, tmp_path):
    """stats(*arguments) -> (what the stats file holds, the finished process)"""

    def run(*arguments, **options):
        path = tmp_path / "stats.json"
        done = weft("run", f"--stats-file={path}", *arguments, **options)
        return json.loads(path.read_text()), done

    return run


def test_the_keys(stats, python):
    counted, done = stats(python, "-c", THREADS)
    assert done.returncode == 0
    assert set(counted) == KEYS
    assert set(counted["fibers"]) == {"created", "peak", "alive"}
    assert set(counted["parks"]) == {"io", "sleep", "lock", "join", "offload", "child", "other"}


@pytest.mark.parametrize("backend", ["io_uring", "epoll"])
def test_threads_are_counted_as_fibers(stats, python, backend):
    counted, _ = stats(f"--backend={backend}", python, "-c", THREADS)
    assert counted["fibers"] == {"created": 20, "peak": 20, "alive": 0}
    assert counted["parks"]["sleep"] == 20
    assert counted["backend"] == backend
    assert counted["routing"] is True
    assert counted["carriers"] == 1
    assert counted["native_threads"] == 0


def test_a_program_without_threads_never_starts_the_runtime(stats, python):
    counted, done = stats("--stats", python, "-c", "pass")
    assert counted["backend"] is None
    assert counted["fibers"]["created"] == counted["carriers"] == counted["switches"] == 0
    assert "no thread was created" in done.stderr


def test_the_version_of_python(stats, python, weft):
    version = weft("run", python, "-c", "import platform; print(platform.python_version())").stdout.strip()
    assert stats(python, "-c", THREADS)[0]["python"] == version


def test_routing_off(stats, python):
    counted, _ = stats("--routing=off", python, "-c", THREADS)
    assert counted["routing"] is False
    assert counted["fibers"]["created"] == 0


def test_the_summary_goes_to_stderr(weft, python):
    done = weft("run", "--stats", python, "-c", THREADS + "print('out')")
    assert done.stdout == "out\n"
    for part in ("20 created, 20 at peak, 0 alive", "sleep 20", "backend", "peak RSS"):
        assert part in done.stderr


def test_the_summary_comes_after_what_the_program_says_at_exit(weft, python):
    done = weft("run", "--stats", python, "-c", "import atexit, sys; atexit.register(sys.stderr.write, 'bye\\n')")
    assert done.stderr.index("bye") < done.stderr.index("weft: process")


def test_an_exit_code_is_kept(stats, python):
    assert stats(python, "-c", "raise SystemExit(5)")[1].returncode == 5


def test_a_forked_child_leaves_its_parents_file_alone(stats, python):
    # The child ends after its parent has: the pipe closes.
    script = "import os, sys\nprint(os.getpid(), flush=True)\nend, other = os.pipe()\n" \
             "if os.fork() == 0: os.close(other); os.read(end, 1); sys.exit(0)\n"
    counted, done = stats("--stats", python, "-c", script)
    assert counted["pid"] == int(done.stdout.split()[0])
    assert done.stderr.count("weft: process") == 1


def test_a_forked_child_has_a_file_of_its_own(weft, python, tmp_path):
    weft("run", f"--stats-file={tmp_path}/%p.json", python, "-c", FORK)
    written = sorted(tmp_path.glob("*.json"))
    assert len(written) == 2
    assert {json.loads(path.read_text())["pid"] for path in written} == {int(path.stem) for path in written}


def test_a_relative_path_means_where_weft_was_started(weft, python, tmp_path):
    weft("run", "--stats-file=stats.json", "sh", "-c", 'cd / && exec "$0" -c "import os; os.chdir(\'/usr\')"', python,
         cwd=tmp_path)
    assert (tmp_path / "stats.json").exists()


def refused(done, path, reason):
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"weft run: the stats file {path} cannot be written: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_that_cannot_be_written_is_refused_at_the_start(weft, tmp_path):
    (tmp_path / "file").write_text("")
    for name, reason in (("no/such/stats", f"does not exist; mkdir -p {tmp_path}/no/such"), ("", "is a directory"),
                         ("folder/", "is a directory"), ("file/stats", "not a directory"), ("no/%p", "does not exist")):
        path = f"{tmp_path}/{name}"
        refused(weft("run", f"--stats-file={path}", "echo", "ran"), path, reason)
        refused(weft("run", "echo", "ran", env={"WEFT_STATS_FILE": path}), path, reason)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def shut():
    """A directory, reachable by everyone, in which nobody but root may write; with a file of that kind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "file").write_text("")
        (folder / "file").chmod(0o444)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


@pytest.mark.parametrize("name", ["file", "stats", "%p"])
def test_a_file_that_may_not_be_written_is_refused_at_the_start(weft, shut, name):
    try:
        done = weft("run", f"--stats-file={shut / name}", "echo", "ran",
                    **({"user": 65534} if os.geteuid() == 0 else {}))
    except PermissionError:
        pytest.skip("only root may run this build")
    refused(done, shut / name, "Permission denied")


@pytest.mark.parametrize("name", ["/dev/null", "/dev/stderr", "%p/stats", "file", "link"])
def test_a_file_that_may_be_writable_is_not_refused(weft, tmp_path, name):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nothing")
    assert weft("run", f"--stats-file={tmp_path / name}", "echo", "ran").stdout == "ran\n"


def test_a_file_that_cannot_be_written_any_more(weft, python, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    done = weft("run", f"--stats-file={folder}/stats", python, "-c",
                f"import os; os.rmdir({str(folder)!r}); raise SystemExit(3)")
    assert done.returncode == 3
    assert f"cannot write the stats file {folder}/stats" in done.stderr


def test_os_exit_writes_none(weft, python, tmp_path):
    path = tmp_path / "stats.json"
    done = weft("run", "--stats", f"--stats-file={path}", python, "-c", "import os; os._exit(0)")
    assert done.stderr == ""
    assert not path.exists()
