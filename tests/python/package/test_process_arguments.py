"""weft.process: arguments that are wrong are told of, by name, and commands that cannot be started."""

import signal
import sys
from pathlib import Path

import pytest
from commands import no_process_is_left  # noqa: F401

from weft.process import (
    HTTPExecutor,
    OutputExecutor,
    PidExecutor,
    ReadinessExecutor,
    Ready,
    SimpleExecutor,
    TCPExecutor,
    UnixSocketExecutor,
)
from weft.process.fixtures import service


class TestArguments:
    @pytest.mark.parametrize("command, error, words", [
        (["/no/such/program"], FileNotFoundError, "cannot be executed"),
        (["no-such-program"], FileNotFoundError, "cannot be executed"),
        (["/etc/passwd"], PermissionError, "cannot be executed"),
    ])
    def test_what_cannot_be_executed(self, command, error, words):
        with pytest.raises(error, match=words) as caught:
            SimpleExecutor(command).start()
        assert caught.value.filename == command[0]

    @pytest.mark.parametrize("command, words", [
        ("cd / && sleep 1000", r"\(if 'cd' was meant for a shell: give one text and shell=True\)"),
        ("PORT=1 sleep 1000", r"\(if 'PORT=1' was meant for a shell: .*, or the variable by envvars\)"),
        ("/no/such/program --port=1", r"cannot be executed: No such file or directory: "),
    ])
    def test_what_is_for_a_shell_is_named(self, command, words):
        with pytest.raises(FileNotFoundError, match=words):
            SimpleExecutor(command).start()

    def test_a_folder_that_is_not_there(self):
        with pytest.raises(FileNotFoundError, match="working directory") as caught:
            SimpleExecutor(["true"], cwd="/no/such/folder").start()
        assert caught.value.filename == "/no/such/folder"

    @pytest.mark.parametrize("make, error", [
        (lambda: SimpleExecutor(""), "empty"),
        (lambda: SimpleExecutor([]), "empty"),
        (lambda: SimpleExecutor("true", timeout=-1), "timeout must be 0 or more"),
        (lambda: SimpleExecutor("true", sleep=float("nan")), "sleep must be 0 or more"),
        (lambda: SimpleExecutor("a 'b"), "No closing quotation"),
        (lambda: SimpleExecutor(["a\0b"]).start(), "null byte"),
        (lambda: TCPExecutor("true", "127.0.0.1", 0), "1 to 65535, not 0"),
        (lambda: TCPExecutor("true", "127.0.0.1", 70000), "1 to 65535, not 70000"),
        (lambda: TCPExecutor("true", "", 80), "host is empty"),
        (lambda: HTTPExecutor("true", "http://127.0.0.1:70000/"), "out of range"),
        (lambda: HTTPExecutor("true", "127.0.0.1:80"), "http://"),
        (lambda: HTTPExecutor("true", "http:///path"), "no host"),
        (lambda: UnixSocketExecutor("true", "x" * 108), "1 to 107 bytes"),
        (lambda: PidExecutor("true", ""), "filename must be defined"),
        (lambda: OutputExecutor("true", r"\N{DIGIT ONE}"), "at position"),
        (lambda: SimpleExecutor("true", popen_kwargs={"preexec_fn": print}), "umask, user, group or limits"),
        (lambda: SimpleExecutor("true", popen_kwargs={"close_fds": False}), "pass_fds"),
        (lambda: SimpleExecutor("true", stop_signal=0), "stop_signal must be a signal's number, 1 to 64, not 0"),
        (lambda: SimpleExecutor("true", kill_signal=65), "kill_signal must be a signal's number, 1 to 64, not 65"),
        (lambda: SimpleExecutor("true", envvars={"A=B": "1"}), "'A=B' cannot be a variable's name"),
        (lambda: SimpleExecutor("true", envvars={1: "1"}), "1 cannot be a variable's name"),
        (lambda: HTTPExecutor("true", "http://x", request_timeout=-1), "request_timeout must be 0 or more"),
    ])
    def test_bad_input(self, make, error):
        with pytest.raises(ValueError, match=error):
            make()

    @pytest.mark.parametrize("make, error", [
        (lambda: SimpleExecutor("true", stop_signal="INT"), "stop_signal must be a signal's number, as signal.SIGINT, not 'INT'"),
        (lambda: SimpleExecutor("true", envvars={"A": 1}), "the value of A must be text, not 1: give '1'"),
        (lambda: SimpleExecutor("true", envvars={"A": None}), "the value of A must be text, not None: leave it out"),
        (lambda: service(SimpleExecutor("true")), "takes a function that returns an executor"),
        (lambda: SimpleExecutor("true", timeout="5"), "timeout must be seconds, as 30 or 0.5, not '5'"),
        (lambda: SimpleExecutor("true", log=True), "log must be a logger, the path of a file or a function, not True"),
        (lambda: SimpleExecutor("true", log=sys.stdout), "give its write method"),
        (lambda: HTTPExecutor("true", "http://x", status=[200]), "status must be a number or a regular expression"),
        (lambda: HTTPExecutor("true", "http://x", headers={"a": 1}), "name and value must be text, not 'a': 1"),
        (lambda: Ready.all([Ready.file("x")]), "each as an argument, and not"),
        (lambda: Ready.any(Ready.file("x"), "y"), "each as an argument, and not 'y'"),
        (lambda: ReadinessExecutor("true", [Ready.file("x")]), "ready must be a Ready, as Ready.all"),
    ])
    def test_values_of_another_type(self, make, error):
        with pytest.raises(TypeError, match=error):
            make()

    def test_what_popen_and_mirakuru_take_besides(self):
        class Number:
            def __index__(self):
                return 15

        for arguments in ({"stop_signal": Number()}, {"stop_signal": signal.SIGTERM}, {"envvars": [("A", "1")]},
                          {"popen_kwargs": {"start_new_session": False}}):
            with SimpleExecutor(["sleep", "1000"], **arguments):
                pass
        assert callable(service(TCPExecutor))
        with SimpleExecutor([Path("/bin/sleep"), "1000"]) as executor:
            assert executor.command == "/bin/sleep 1000"

    def test_a_word_that_is_no_utf_8(self):
        with pytest.raises(FileNotFoundError, match="meant for a shell"):
            SimpleExecutor(["A=\udcff", "x"]).start()

    def test_a_signal_that_stop_and_kill_do_not_take(self):
        with SimpleExecutor(["sleep", "1000"]) as executor:
            for end in (lambda: executor.stop("INT"), lambda: executor.kill(sig="KILL")):
                with pytest.raises(TypeError, match="must be a signal's number"):
                    end()
                assert executor.running()

    def test_an_argument_that_popen_does_not_have(self):
        with pytest.raises(TypeError, match="no argument 'colour'"):
            SimpleExecutor("true", popen_kwargs={"colour": 1})
