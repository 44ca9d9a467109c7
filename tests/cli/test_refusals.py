"""What cannot run under Weft is refused, with the reason and what to do."""

import os
import shutil
import struct

import pytest
from cli_support import PRELOAD, WEFT


def refused(done, code, *parts):
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("weft run: ")
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr


def executable(path, content):
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def test_a_command_that_is_not_there(weft, tmp_path):
    refused(weft("run", "no-such-command"), 127, "no-such-command", "$PATH")
    refused(weft("run", tmp_path / "nothing"), 127, "does not exist")


def test_an_empty_command(weft):
    refused(weft("run", ""), 127, "empty", "variable that is not set")


def test_a_directory(weft, tmp_path):
    (tmp_path / "app").mkdir()
    refused(weft("run", tmp_path / "app"), 126, f"{tmp_path}/app is a directory", "name a program in it")
    refused(weft("run", "app", cwd=tmp_path), 127, "not found in $PATH", "directory")
    (tmp_path / "app" / "__main__.py").write_text("")
    refused(weft("run", "./app", cwd=tmp_path), 126, ": weft run python3 ./app\n")


def test_a_python_file_that_does_not_run_by_itself(weft, tmp_path):
    """What to type instead stands in the message."""
    script = tmp_path / "script.py"
    script.write_text("print(1)")
    refused(weft("run", script), 126, f"not an executable file: weft run python3 {script}\n")
    refused(weft("run", "script.py", cwd=tmp_path), 127, "current directory: weft run python3 script.py\n")
    script.write_text("#!/usr/bin/env python3\n")
    refused(weft("run", script), 126, f"weft run python3 {script}, or chmod +x it\n")
    executable(tmp_path / "bare.py", b"print(1)")
    refused(weft("run", "./bare.py", cwd=tmp_path), 126, "weft run python3 ./bare.py")


def test_a_file_that_may_not_be_executed(weft, tmp_path):
    (tmp_path / "a file").write_text("echo hello")
    refused(weft("run", "./a file", cwd=tmp_path), 126, "chmod +x", "weft run sh './a file'")
    (tmp_path / "a file").write_text("#!/bin/bash\n")
    refused(weft("run", "./a file", cwd=tmp_path), 126, "weft run bash './a file', or chmod +x it")
    executable(tmp_path / "nosuch", b"#!/bin/sh\n")
    refused(weft("run", "nosuch", cwd=tmp_path), 127, "weft run ./nosuch\n")


def test_a_script_without_an_interpreter(weft, tmp_path):
    refused(weft("run", executable(tmp_path / "script", b"echo hello\n")), 126, "#!", "weft run sh ")
    refused(weft("run", executable(tmp_path / "none", b"#!\n")), 127, "names no interpreter")


def test_a_script_whose_interpreter_is_not_there(weft, tmp_path):
    script = executable(tmp_path / "script", b"#!/no/such/python9\n")
    refused(weft("run", script), 127, f"/no/such/python9, which the first line of {script} names, does not exist",
            f"weft run python3 {script}")
    script.write_bytes(b"#!/usr/bin/env nosuch\n")
    refused(weft("run", script), 127, "nosuch, which the first line of", "not found in $PATH")
    script.write_bytes(b"#!%s\n" % str(tmp_path).encode())
    refused(weft("run", script), 126, f"{tmp_path}, which the first line of {script} names, is a directory")


@pytest.mark.parametrize("interpreter", ["/bin/sh", "/usr/bin/env python3", "/usr/bin/env nosuch"])
def test_a_script_with_dos_line_ends(weft, tmp_path, interpreter):
    """The kernel takes the carriage return as part of the interpreter's name."""
    script = executable(tmp_path / "script", f"#!{interpreter}\r\n".encode())
    name = interpreter.split()[-1]
    refused(weft("run", script), 127, f'"{name}\\r", which does not exist', "CRLF", f"sed -i 's/\\r$//' {script}")


def test_a_static_program(weft, compile_c):
    refused(weft("run", compile_c("static", "int main(void) { return 0; }", "-static")), 126, "statically linked")


def test_a_32_bit_program(weft, tmp_path):
    header = b"\x7fELF\x01\x01\x01".ljust(16, b"\0") + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, 0, 52, 0, 0, 52, 32, 0, 0, 0, 0)
    refused(weft("run", executable(tmp_path / "small", header)), 126, "32-bit")


def test_a_musl_program(weft, compile_c):
    program = compile_c("musl", "int main(void) { return 0; }", "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1")
    refused(weft("run", program), 126, "musl")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file setuid for another user")
def test_a_setuid_program(weft, tmp_path):
    copy = tmp_path / "true"
    shutil.copy("/bin/true", copy)
    os.chown(copy, 65534, 65534)
    copy.chmod(0o4755)
    refused(weft("run", copy), 126, "is setuid", "ignores preloaded libraries")


def test_weft_without_its_library(weft, tmp_path):
    (tmp_path / "bin").mkdir()
    program = shutil.copy(WEFT, tmp_path / "bin" / "weft")
    refused(weft("run", "true", program=program), 125, "libweft-preload.so", str(tmp_path / "lib" / "weft"))


@pytest.mark.parametrize("library", ["preload", "lib/weft"])
def test_the_library_is_found_beside_the_program(weft, tmp_path, library, python):
    for folder in ("bin", library):
        (tmp_path / folder).mkdir(parents=True)
    program = shutil.copy(WEFT, tmp_path / "bin" / "weft")
    shutil.copy(PRELOAD, tmp_path / library)
    done = weft("run", "--verbose", python, "-c", "print('ran')", program=program)
    assert done.stdout == "ran\n"
    assert str(tmp_path / library) in done.stderr


@pytest.mark.parametrize("name", ["a b", "a:b"])
def test_a_library_whose_path_the_loader_would_split(weft, tmp_path, name):
    for folder in ("bin", "preload"):
        (tmp_path / name / folder).mkdir(parents=True)
    program = shutil.copy(WEFT, tmp_path / name / "bin" / "weft")
    shutil.copy(PRELOAD, tmp_path / name / "preload")
    refused(weft("run", "true", program=program), 125, "space or colon")
