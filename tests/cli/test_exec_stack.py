"""`weft exec --file`: services that depend on each other, and the examples of the guide."""

import re
import signal
import subprocess
import sys

import pytest

from cli_support import ROOT, WEFT, clean_environment, wait_until
from exec_support import SERVER, alive, free_port, marked, nothing_is_left  # noqa: F401

GUIDE = ROOT / "docs" / "guides" / "processes-cli.md"
# It tells a file when it starts and when it is stopped.
NOTING = """
import signal, sys
def note(what):
    with open(sys.argv[2], "a") as stream:
        print(what, sys.argv[3], file=stream)
def stop(*_):
    note("-")
    sys.exit()
signal.signal(signal.SIGTERM, stop)
note("+")
""" + SERVER


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


@pytest.fixture
def stack(tmp_path):
    """A file of three services that note what they do; web comes after db and cache."""
    path = tmp_path / "stack.toml"
    text = ""
    for name, after in (("web", '"db", "cache"'), ("db", ""), ("cache", "")):
        port = free_port()
        text += (f"[service.{name}]\ncommand = ['{sys.executable}', '-S', '-c', {quoted(NOTING)}, '{port}', "
                 f"'{tmp_path}/notes', '{name}']\nwait-port = {port}\nwait-output = 'listening'\nafter = [{after}]\n")
    path.write_text(text)
    return path


def notes(tmp_path):
    return (tmp_path / "notes").read_text().splitlines()


def test_services_start_before_and_stop_after_those_that_need_them(weft, stack, tmp_path):
    done = weft("exec", "--file", stack, "--", "sh", "-c", f"cp {tmp_path}/notes {tmp_path}/then; exit 4")
    assert (done.returncode, done.stderr) == (4, "")
    then = (tmp_path / "then").read_text().splitlines()
    assert (sorted(then[:2]), then[2:]) == (["+ cache", "+ db"], ["+ web"])
    assert notes(tmp_path)[3] == "- web"
    assert sorted(notes(tmp_path)[4:]) == ["- cache", "- db"]


def test_the_two_dashes_may_be_left_out(weft, stack):
    assert weft("exec", "--file", stack, "echo", "--", "x").stdout == "-- x\n"


def test_only_and_check(weft, stack, tmp_path):
    assert weft("exec", "--file", stack, "--check").stdout == "db\ncache\nweb: after db, cache\n"
    assert weft("exec", "--file", stack, "--only", "cache", "--check").stdout == "cache\n"
    assert weft("exec", "--file", stack, "--only", "cache", "--check", "--", "echo", "x").stdout == "cache\n"
    assert not (tmp_path / "notes").exists()
    assert weft("exec", "--file", stack, "--only", "cache", "--", "true").returncode == 0
    assert notes(tmp_path) == ["+ cache", "- cache"]
    done = weft("exec", "--file", stack, "--only", "nothing", "--", "true")
    assert (done.returncode, "expected one of db, cache, web" in done.stderr) == (2, True)


def test_one_that_is_not_ready_is_named_and_so_are_the_others(weft, tmp_path):
    (tmp_path / "f.toml").write_text("""
[service.good]
command = "sh -c 'echo up; exec sleep 1000'"
wait-output = "up"
[service.bad]
command = "sh -c 'echo no luck; exec sleep 1000'"
wait-output = "never"
timeout = 0.5
after = "good"
[service.late]
command = "sleep 1000"
after = ["bad"]
""")
    done = weft("exec", "--file", tmp_path / "f.toml", "--", "true")
    assert done.returncode == 125
    assert "weft exec: bad is not ready: " in done.stderr
    assert "was not ready after 0.5 s: output that matches /never/: none so far" in done.stderr
    assert "no luck" in done.stderr
    assert done.stderr.endswith("weft exec: ready: good; not started: late\n")


def test_a_file_that_is_wrong_or_missing(weft, tmp_path):
    path = tmp_path / "f.toml"
    done = weft("exec", "--file", path, "--", "true")
    assert (done.returncode, done.stderr.startswith(f"weft exec: {path}: No such file")) == (2, True)
    path.write_text("[service.a]\ncommand = 'x'\nafter = ['b']\n[service.b]\ncommand = 'x'\nafter = 'a'\n")
    for more in (["--check"], ["--", "true"]):
        done = weft("exec", "--file", path, *more)
        assert done.returncode == 2
        assert done.stderr.startswith(f"weft exec: {path}:3:10: the services wait for each other: a after b after a;")


def test_without_a_command_the_first_that_fails_ends_all(weft, tmp_path):
    (tmp_path / "f.toml").write_text("[service.job]\ncommand = 'true'\n[service.server]\ncommand = 'sleep 1000'\n"
                                     "[service.bad]\ncommand = 'sh -c \"exit 9\"'\nafter = 'server'\n")
    done = weft("exec", "--file", tmp_path / "f.toml")
    assert done.returncode == 9
    assert "weft exec: bad exited with 9" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_leaves_no_service(stack, number):
    mark = marked()
    process = subprocess.Popen([WEFT, "exec", "--file", stack], stderr=subprocess.PIPE, text=True,
                               env=clean_environment(**mark))
    assert process.stderr.readline().startswith("weft exec: ready: db, cache, web; there is no command, so they run until ")
    process.send_signal(number)
    assert process.wait(30) == (-9 if number == signal.SIGKILL else 130)
    process.stderr.close()
    wait_until(lambda: not alive(mark))


def examples():
    text = GUIDE.read_text()
    return dict(re.findall(r"^```toml\n# (\w+)\.toml: (.*?^)```$", text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("name, arguments, order", [
    ("stack", [], "db\nqueue\nweb: after db, queue\n"),
    ("jobs", ["--only", "worker"], "broker\nworker: after broker\n"),
])
def test_the_examples_of_the_guide(weft, tmp_path, name, arguments, order):
    path, text = tmp_path / f"{name}.toml", "# " + examples()[name]
    for port in set(re.findall(r"\b184\d\d\b", text)):
        text = text.replace(port, str(free_port()))
    path.write_text(text.replace("/tmp", str(tmp_path)))
    assert weft("exec", "--file", path, *arguments, "--check").stdout == order
    done = weft("exec", "--file", path, *arguments, "--quiet", "--", "echo", "tested", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "tested\n", "")
