"""weft leaks: functions of Python and of native programs, and commands."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from cli_support import BUILD, WEFT, clean_environment
from leaks_support import functions, leaks, native, only  # noqa: F401

# --- Functions of Python.


def test_a_function_that_leaks_is_found_with_the_line_that_allocates(leaks, functions):
    code, result = only(leaks(f"{functions}:lose"))
    assert (code, result["verdict"], result["what"], result["exact"]) == (1, "leaks", "MemoryLeakError", True)
    assert "functions.py" in result["text"] and "in lose" in result["text"]
    assert result["calls"] > 1000


def test_one_that_does_not_is_not_blamed(leaks, functions):
    code, result = only(leaks(f"{functions}:good"))
    assert (code, result["verdict"], result["text"]) == (0, "clean", "")


@pytest.mark.parametrize("function, what", [
    ("leave_descriptor", "UnclosedFdError"),
    ("leave_garbage", "UncollectableGarbageError"),
])
def test_what_is_left_besides_memory_is_found(leaks, functions, function, what):
    code, result = only(leaks(f"{functions}:{function}"))
    assert (code, result["verdict"], result["what"]) == (1, "leaks", what)


def test_a_module_is_found_in_the_working_directory(leaks, functions):
    code, result = only(leaks("functions:good", cwd=functions.parent))
    assert (code, result["verdict"]) == (0, "clean")


def test_arguments_are_literals_or_texts_or_named(leaks, functions):
    code, result = only(leaks(f"{functions}:require", "--args", "1", "[2]", "three", "=4", "five=5"))
    assert (code, result["verdict"]) == (0, "clean"), result["text"]


def test_a_method_of_a_class_is_found(leaks, functions):
    assert only(leaks(f"{functions}:Parser.reset"))[0] == 0


@pytest.mark.parametrize("function, what, text", [
    ("fail", "ValueError", "no such luck"),
    ("crash", "ended", "SIGSEGV"),
    ("leave", "ended", "exit code 3"),
    ("fork", "forked", "its child came back"),
    ("missing", "program", "has no missing; it has Parser, crash, fail, fork"),
    ("number", "program", "cannot be called: it is 5"),
])
def test_what_cannot_be_checked_is_told(leaks, functions, function, what, text):
    code, result = only(leaks(f"{functions}:{function}"))
    assert (code, result["verdict"], result["what"]) == (125, "failed", what)
    assert text in result["text"]
    assert "weft/leaks" not in result["text"] or what == "ended"


def test_a_function_that_never_returns_is_ended_and_its_line_told(leaks, functions):
    code, result = only(leaks(f"{functions}:hang", "--call-limit", "1.5"))
    assert (code, result["what"]) == (125, "timeout")
    assert "within 1.5 s" in result["text"] and "in hang" in result["text"]


def test_the_limit_is_of_one_call_and_not_of_all(leaks, functions):
    code, result = only(leaks(f"{functions}:slow", "--call-limit", "2", "--time-limit", "2", "--warm-up", "8"))
    assert (code, result["verdict"], result["uncertain"]) == (0, "clean", True), result["text"]


@pytest.mark.parametrize("target, text", [
    ("no_such_module:f", "there is no module no_such_module"),
    ("./no_such_file.py:f", "there is no file ./no_such_file.py"),
])
def test_what_is_missing_is_named(leaks, target, text):
    code, result = only(leaks(target))
    assert code == 125 and text in result["text"]


def test_an_interpreter_without_weft_is_told_of(leaks, functions, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    code, result = only(leaks(f"{functions}:good", "--python", tmp_path / "bare/bin/python3"))
    assert code == 125 and "has no package weft: install it" in result["text"] and "--python" in result["text"]


def test_each_target_has_a_process_of_its_own(leaks, functions):
    code, results = leaks(f"{functions}:crash", f"{functions}:good", f"{functions}:lose", "--no-search")
    assert code == 1
    assert [one["verdict"] for one in results] == ["failed", "clean", "leaks"]


def test_the_options_reach_the_check(leaks, functions):
    assert only(leaks(f"{functions}:lose", "--tolerance", "1M"))[1]["verdict"] == "clean"
    assert only(leaks(f"{functions}:lose", "--only", "descriptors", "--only", "garbage"))[1] | {"seconds": 0} == {
        "target": f"{functions}:lose", "kind": "python", "verdict": "clean", "what": "", "text": "", "calls": 0, "seconds": 0,
        "uncertain": False, "exact": True}
    assert "allocated at" not in only(leaks(f"{functions}:lose", "--no-search"))[1]["text"]


# --- Functions of native programs.


@pytest.mark.parametrize("place", ["program", "library.so"])
def test_native_functions(leaks, native, place):
    code, results = leaks(*(f"./{place}:{name}" for name in ("good", "environment", "descriptor")), cwd=native)
    assert [one["verdict"] for one in results] == ["clean", "clean", "leaks"], results
    code, result = only(leaks(f"./{place}:f", "--args", "40", cwd=native))
    assert (code, result["verdict"], result["what"], result["exact"]) == (1, "leaks", "memory", True)
    assert re.search(rf"^ +f \({re.escape(place)}\)$", result["text"], re.MULTILINE), result["text"]


def test_native_arguments(leaks, native):
    code, result = only(leaks("./program:expect", "--args=-5", "--args=a b", '--args="12"', cwd=native))
    assert (code, result["verdict"]) == (0, "clean"), result["text"]
    for arguments, text in ((["1.5"], "no whole number"), (list("1234567"), "at most 6"), (["9" * 30], "64 bits")):
        assert text in only(leaks("./program:good", "--args", *arguments, cwd=native))[1]["text"]


@pytest.mark.parametrize("target, what, text", [
    ("./program:raise_error", "exception", "threw std::runtime_error: no such luck"),
    ("./library.so:raise_error", "exception", "threw std::runtime_error: no such luck"),
    ("./program:raise_number", "exception", "threw int"),
    ("./program:crash", "ended", "SIGSEGV"),
    ("./program:leave", "ended", "exit code 3"),
    ("./program:fork_here", "forked", "its child came back"),
    ("./program:missing", "program", "exports no missing; link a program with -rdynamic"),
    ("./static:good", "program", "statically linked"),
    ("./missing:good", "program", "does not exist"),
    ("./missing.so:good", "program", "No such file"),
    ("./script.sh:good", "program", "is a script"),
])
def test_what_cannot_be_checked_of_native_programs_is_told(leaks, native, target, what, text):
    (native / "script.sh").write_text("#!/bin/sh\n")
    (native / "script.sh").chmod(0o755)
    code, result = only(leaks(target, cwd=native))
    assert (code, result["verdict"], result["what"]) == (125, "failed", what), result["text"]
    assert text in result["text"]


def test_a_native_function_that_never_returns_is_ended(leaks, native):
    code, result = only(leaks("./program:hang", "--call-limit", "1", cwd=native))
    assert (code, result["what"]) == (125, "timeout")


# --- Commands.


@pytest.mark.parametrize("leaves, what, text", [
    ("file", "files", "leaks-"),
    ("segment", "segments", "shared memory segment"),
    ("daemon", "processes", ": program"),
])
def test_what_each_run_of_a_command_leaves_is_found(leaks, native, leaves, what, text):
    code, result = only(leaks("--", native / "program", leaves))
    try:
        assert (code, result["verdict"], result["what"], result["calls"]) == (1, "leaks", what, 3)
        assert "2 of the 2 runs after the first" in result["text"] and text in result["text"]
        if leaves == "daemon":
            pid = re.search(r"process (\d+)", result["text"])[1]
            assert not Path(f"/proc/{pid}").exists()
    finally:
        for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:] if leaves == "segment" else []:
            key, number, _, size, *_ = line.split()
            if (key, size) == ("0", "4096"):
                subprocess.run(["ipcrm", "-m", number], check=False)


@pytest.mark.parametrize("leaves", ["", "once"])
def test_a_command_that_leaves_nothing_more_is_not_blamed(leaks, native, leaves):
    code, result = only(leaks("--calls", "5", "--", native / "program", leaves))
    assert (code, result["verdict"], result["calls"], result["kind"]) == (0, "clean", 5, "command")


def test_only_what_is_asked_for_is_looked_at(leaks, native):
    assert only(leaks("--only", "processes", "--", native / "program", "file"))[0] == 0


@pytest.mark.parametrize("arguments, what, text", [
    (["fail"], "ended", "exited with 3; --any-exit"),
    (["crash"], "ended", "SIGABRT"),
    (["hang"], "timeout", "within 1 s"),
])
def test_commands_that_fail(leaks, native, arguments, what, text):
    code, result = only(leaks("--call-limit", "1", "--", native / "program", *arguments))
    assert (code, result["what"]) == (125, what)
    assert text in result["text"]


def test_a_command_that_may_fail(leaks, native):
    assert only(leaks("--any-exit", "--", native / "program", "fail"))[0] == 0


def test_a_command_that_is_missing(leaks):
    assert "No such file" in only(leaks("--", "./no-such-command"))[1]["text"]
    assert "No such file" in only(leaks("./no-such-command"))[1]["text"]


# --- What is told.


def test_the_text_is_on_standard_output(weft, functions):
    done = weft("leaks", "--python", sys.executable, f"{functions}:good", f"{functions}:fail")
    good, failed, *_ = done.stdout.splitlines()
    assert re.fullmatch(rf"{functions}:good: no leak \(\d+ calls, \d+\.\d\d s\)", good)
    assert failed == f"{functions}:fail: not checked"
    assert done.stderr == ""


def test_quiet_tells_of_leaks_and_failures(weft, functions):
    done = weft("leaks", "--quiet", "--python", sys.executable, f"{functions}:good", f"{functions}:leave_descriptor")
    assert done.stdout.startswith(f"{functions}:leave_descriptor: LEAKS")
    assert "good" not in done.stdout


def test_output_is_shown_where_that_is_asked_for(weft, functions):
    for options, shown in (([], False), (["--show-output"], True)):
        done = weft("leaks", *options, "--python", sys.executable, f"{functions}:talk")
        assert ("it is said" in done.stderr) == shown
        assert "it is said" not in done.stdout


def test_junit(weft, functions):
    done = weft("leaks", "--junit", "-", "--python", sys.executable,
                *(f"{functions}:{name}" for name in ("good", "leave_descriptor", "fail")))
    suite = ElementTree.fromstring(done.stdout.encode())[0]
    assert {name: suite.get(name) for name in ("tests", "failures", "errors")} == {"tests": "3", "failures": "1", "errors": "1"}
    assert [case.get("name") for case in suite] == ["good", "leave_descriptor", "fail"]
    assert suite[1][0].tag == "failure" and "/dev/null" in suite[1][0].text
    assert suite[2][0].tag == "error" and suite[2][0].get("type") == "ValueError"
    assert "no leak" in done.stderr


def test_junit_and_json_of_texts_that_are_no_unicode(weft, native):
    command = [str(WEFT), "leaks", "--json", "-", "--", native / "program", "fail", b"\xff<&\x01"]
    done = subprocess.run(command, capture_output=True, timeout=60, env=clean_environment(TMPDIR="/tmp"))
    assert json.loads(done.stdout)["results"][0]["target"].endswith("'\ufffd<&\x01'")
    command[2] = "--junit"
    done = subprocess.run(command, capture_output=True, timeout=60, env=clean_environment(TMPDIR="/tmp"))
    assert ElementTree.fromstring(done.stdout)[0][0].get("name").endswith("'\ufffd<& '")


def test_growth_is_drawn(weft, functions, tmp_path):
    weft("leaks", "--svg", tmp_path / "a/b", "--no-search", "--python", sys.executable, "functions:lose", cwd=functions.parent)
    assert "heap (leaks)" in (tmp_path / "a/b/functions-lose.svg").read_text()


def test_a_file_that_cannot_be_written_is_told(weft, functions):
    done = weft("leaks", "--json", "/no/such/folder/x", "--python", sys.executable, f"{functions}:good")
    assert done.returncode == 125
    assert "/no/such/folder/x cannot be written" in done.stderr


def test_progress_on_a_terminal(functions):
    leader, follower = os.openpty()
    subprocess.run([str(WEFT), "leaks", "--python", sys.executable, "functions:lose"], cwd=functions.parent,
                   stdout=subprocess.DEVNULL, stderr=follower, env=clean_environment(), timeout=60)
    os.close(follower)
    assert re.search(rb"weft leaks: functions:lose: Run # ?3: heap=\+", os.read(leader, 1 << 16))
    os.close(leader)


def test_without_the_agent_it_says_so(functions, native, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/weft").write_bytes((BUILD / "cli/weft").read_bytes())
    (tmp_path / "bin/weft").chmod(0o755)
    done = subprocess.run([tmp_path / "bin/weft", "leaks", f"{native}/program:good"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 125
    assert "libweft-leaks.so is neither in" in done.stderr


# --- Wrong usage.


@pytest.mark.parametrize("arguments, text", [
    ([], "something to check is required"),
    (["program"], "'program' is nothing to check"),
    (["module:"], "name of the function is missing"),
    (["no-module:f"], "is no name of a module"),
    (["module:f-g"], "is no name of a function"),
    (["--calls", "0", "m:f"], "0 is too few"),
    (["--calls", "1e3", "m:f"], "'1e3' is no number"),
    (["--runs=-1", "m:f"], "'-1' is no number"),
    (["--tolerance=-1", "m:f"], "'-1' is no size"),
    (["--memory-limit", "0", "m:f"], "0 is too little"),
    (["--time-limit", "0", "m:f"], "too short"),
    (["--call-limit", "x", "m:f"], "no time to wait"),
    (["--only", "nothing", "m:f"], "there is no 'nothing'; expected memory, descriptors"),
    (["--only", "garbage", "./a.so:f"], "garbage is of Python's functions alone"),
    (["--only", "memory", "--", "true"], "of a command processes, files and segments"),
    (["--tolerance", "1", "--", "true"], "--tolerance is for functions"),
    (["--any-exit", "m:f"], "--any-exit is for commands"),
    (["--calls", "2", "--", "true"], "3 times or more"),
    (["--bogus"], "--bogus"),
], ids=str)
def test_wrong_usage_is_told(weft, arguments, text):
    done = weft("leaks", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr and "Usage: weft leaks" in done.stderr


def test_help_goes_to_standard_output(weft):
    done = weft("leaks", "--help")
    assert done.returncode == 0 and "--junit FILE" in done.stdout and done.stderr == ""


def test_the_agent_says_who_runs_it():
    done = subprocess.run([sys.executable, "-m", "weft.leaks._agent"], capture_output=True, text=True, env=clean_environment())
    assert done.returncode == 1 and "weft leaks module:function" in done.stderr
