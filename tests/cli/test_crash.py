"""A crash is reported, and the process dies of it as it would have."""

import re
import signal

import pytest

IN_THREAD = "import ctypes, os, signal, threading\ndef crash(): {}\nthread = threading.Thread(target=crash)\n" \
            "thread.start()\nthread.join()\n"


@pytest.mark.parametrize("statement, number, place", [
    ("ctypes.string_at(16)", signal.SIGSEGV, "at address 0x10"),
    ("ctypes.CFUNCTYPE(None)(0x1234)()", signal.SIGSEGV, "0x1234 in no library"),
    ("os.abort()", signal.SIGABRT, "abort"),
    ("signal.raise_signal(signal.SIGFPE)", signal.SIGFPE, "in fiber"),
    ("signal.raise_signal(signal.SIGBUS)", signal.SIGBUS, "in fiber"),
])
def test_report_and_death(weft, python, statement, number, place):
    done = weft("run", python, "-c", IN_THREAD.format(statement))
    assert done.returncode == -number
    assert f"crashed: {number.name}" in done.stderr
    assert place in done.stderr
    assert "in fiber 2" in done.stderr
    assert 'File "<string>", line 2 in crash' in done.stderr
    assert 'Python stack of thread "Thread-1 (crash)", innermost first:' in done.stderr
    assert "native stack" in done.stderr


def test_the_library_at_fault_is_named(weft, python, compile_c):
    library = compile_c("libculprit.so", "void fall(void) { *(volatile int *)0 = 1; }", "-shared", "-fPIC", "-O0")
    done = weft("run", python, "-c", IN_THREAD.format(f"ctypes.CDLL('{library}').fall()"))
    assert done.returncode == -signal.SIGSEGV
    assert f"at fall+" in done.stderr and str(library) in done.stderr


def test_a_stack_overflow_names_fiber_and_option(weft, python, compile_c):
    library = compile_c("libdeep.so", "int deep(int n) { volatile char b[512]; b[0] = n; return deep(n + 1) + b[0]; }",
                        "-shared", "-fPIC", "-O0")
    done = weft("run", "--stack-size=256K", python, "-c", IN_THREAD.format(f"ctypes.CDLL('{library}').deep(0)"))
    assert done.returncode == -signal.SIGSEGV
    assert "stack overflow in fiber 2: raise --stack-size" in done.stderr
    assert len(done.stderr.splitlines()) < 50
    assert re.search(r"  deep\S*\+0x.*\n  \.\.\. the frame above \d+ more times\n", done.stderr)
    assert "thread_run+0x" in done.stderr or "python3.11+0x" in done.stderr  # the outermost frames


def test_a_recursion_through_python_is_told_in_brief(weft, python):
    fall = "import sys\nsys.setrecursionlimit(5000)\ndef fall(n): ctypes.string_at(16) if n == 0 else fall(n - 1)\n"
    done = weft("run", python, "-c", "import ctypes\n" + fall + IN_THREAD.format("fall(500)"))
    assert done.returncode == -signal.SIGSEGV
    assert re.search(r" in fall\n  \.\.\. the frame above \d+ more times\n", done.stderr)
    assert len(done.stderr.splitlines()) < 80


def test_names_of_functions_in_cpp_are_readable(weft, python, compile_c):
    source = "namespace outer { struct Inner { __attribute__((noinline)) static void fall(int *p) { *(volatile int *)p = 1; } }; }" \
             "extern \"C\" void go() { outer::Inner::fall(0); __asm__(\"\"); }"
    library = compile_c("libculprit.so", source, "-shared", "-fPIC", "-O1", language="c++")
    done = weft("run", python, "-c", IN_THREAD.format(f"ctypes.CDLL('{library}').go()"))
    assert "at outer::Inner::fall(int*)+0x" in done.stderr


@pytest.mark.parametrize("when", ["before", "after"])
def test_faulthandler_keeps_its_report(weft, python, when):
    enable = "import faulthandler; faulthandler.enable(); "
    body = ("import ctypes, threading\n" + (enable if when == "before" else "") +
            "\ndef crash():\n  " + (enable if when == "after" else "") + "ctypes.string_at(16)\n"
            "thread = threading.Thread(target=crash)\nthread.start()\nthread.join()\n")
    done = weft("run", python, "-c", body)
    assert done.returncode == -signal.SIGSEGV
    assert done.stderr.index("Fatal Python error: Segmentation fault") < done.stderr.index("crashed: SIGSEGV")


def test_a_handler_in_python_keeps_working(weft, python):
    done = weft("run", python, "-c", "import signal\nsignal.signal(signal.SIGABRT, lambda *_: print('handled'))\n" +
                IN_THREAD.format("signal.raise_signal(signal.SIGABRT)"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "handled\n", "")
