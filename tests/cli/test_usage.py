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


@pytest.mark.parametrize("command", [[], ["run"], ["doctor"], ["dump"]], ids=str)
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
