"""Arguments: what is refused, and where the options end."""

import pytest


@pytest.mark.parametrize("arguments", [
    [],
    ["run"],
    ["run", "--"],
    ["run", "--bogus", "true"],
    ["run", "--stats", "--bogus", "--", "true"],
    ["run", "--backend"],
    ["run", "--backend=kqueue", "true"],
    ["run", "--stack-size=1K", "true"],
    ["run", "--stack-size", "lots", "true"],
    ["run", "--threads=some", "true"],
    ["run", "--routing=maybe", "true"],
    ["run", "--dump-signal=KILL", "true"],
    ["bogus"],
    ["--bogus"],
    ["dump"],
    ["dump", "x"],
    ["dump", "0"],
    ["dump", "1", "2"],
    ["doctor", "--bogus"],
], ids=" ".join)
def test_wrong_arguments_give_usage_on_stderr_and_2(weft, arguments):
    done = weft(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage: weft" in done.stderr
    assert done.stderr.count("\n") == 2


@pytest.mark.parametrize("arguments, bad, allowed", [
    (["--backend=kqueue"], "--backend: 'kqueue'", "io_uring"),
    (["--stack-size=1K"], "--stack-size: '1K'", "from 16K to 1G"),
    (["--threads=some"], "--threads: 'some'", "python, all or none"),
    (["--dump-signal=KILL"], "--dump-signal: 'KILL'", "QUIT"),
])
def test_a_bad_value_is_named_with_what_is_allowed(weft, arguments, bad, allowed):
    done = weft("run", *arguments, "true")
    assert bad in done.stderr
    assert allowed in done.stderr


@pytest.mark.parametrize("arguments, instead", [
    ([], "weft run python3 app.py"),
    (["run", "--stats"], "weft run python3 app.py"),
    (["sh", "-c", "echo 'a b'; exit"], """weft run sh -c 'echo '\\''a b'\\''; exit'"""),
    (["sh", "--version"], "weft run sh --version"),
    (["app.py", "-x"], "weft run python3 app.py -x"),
    (["./app.py"], "weft run python3 ./app.py"),
    (["--stats", "run", "sh"], "weft run --stats sh"),
    (["--backend", "epoll", "--verbose", "run", "--stats", "sh"], "weft run --backend epoll --verbose --stats sh"),
    (["--backend=epoll", "run", "--", "run"], "weft run --backend=epoll -- run"),
    (["--verbose", "sh"], "weft run --verbose sh"),
    (["--json", "doctor", "sh"], "weft doctor --json sh"),
], ids=str)
def test_what_to_type_instead_is_named(weft, tmp_path, arguments, instead):
    (tmp_path / "app.py").write_text("")
    done = weft(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0].endswith((f": {instead}", f"as in {instead}"))


def test_what_is_no_program_is_not_taken_for_one(weft):
    for arguments in (["doctr"], ["--json", "run", "true"], ["--bogus", "run", "true"], ["", "run"]):
        done = weft(*arguments)
        assert done.returncode == 2
        assert "weft run doctr" not in done.stderr
        assert "belongs" not in done.stderr


@pytest.mark.parametrize("command", [[], ["run"], ["exec"], ["leaks"], ["doctor"], ["dump"]], ids=str)
def test_help_goes_to_stdout(weft, command):
    done = weft(*command, "--help")
    assert done.returncode == 0
    assert done.stdout.count("Usage: weft") == 1
    assert done.stderr == ""


def test_run_help_lists_every_option(weft):
    text = weft("run", "--help").stdout
    for option in ("--backend", "--stack-size", "--threads", "--children", "--stats", "--stats-file", "--dump-signal",
                   "--verbose", "--routing"):
        assert option in text


def test_version(weft):
    done = weft("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("weft ")


@pytest.mark.parametrize("arguments", [
    ["echo", "--stats", "--", "-x", "--help"],
    ["--", "echo", "--stats", "--", "-x", "--help"],
    ["--stack-size", "64K", "echo", "--stats", "--", "-x", "--help"],
    ["--backend=epoll", "--", "echo", "--stats", "--", "-x", "--help"],
])
def test_what_follows_the_command_is_the_commands_own(weft, arguments):
    done = weft("run", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "--stats -- -x --help\n", "")


def test_arguments_pass_untouched(weft, python):
    arguments = ["", " ", "a b", "*", "'", '"', "-", "--", "ä", "%p"]
    done = weft("run", python, "-c", "import sys; print(sys.argv[1:])", *arguments)
    assert done.stdout == f"{arguments}\n"


def test_behind_two_dashes_a_command_may_be_called_anything(weft):
    done = weft("run", "--", "--bogus")
    assert done.returncode == 127
    assert "--bogus was not found" in done.stderr
