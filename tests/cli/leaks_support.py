"""What the tests of `weft leaks` check."""

import json
import subprocess
import sys

import pytest

FUNCTIONS = """
import os, tempfile, time

kept = []

def good(*args, **kwargs):
    return [args, kwargs]

def lose(size=100):
    kept.append(b"x" * size)

def leave_descriptor():
    os.open("/dev/null", os.O_RDONLY)

def leave_garbage():
    parser = Parser()
    parser.me = parser

def fail():
    raise ValueError("no such luck")

def crash():
    os.kill(os.getpid(), 11)

def leave():
    os._exit(3)

def hang():
    time.sleep(1000)

def fork():
    os.fork()

def slow():
    time.sleep(0.3)

def talk():
    print("it is said")

def require(*args, **kwargs):
    assert args == (1, [2], "three", "=4") and kwargs == {"five": 5}, (args, kwargs)

class Parser:
    def feed(self):
        pass

    @classmethod
    def reset(cls):
        pass

number = 5
"""

NATIVE = r"""
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <stdexcept>
#include <vector>

static std::vector<int> made_before_main{1, 2, 3};

extern "C" {
void good() { if (made_before_main.size() != 3) abort(); free(malloc(64)); }
void* f_kept;
void f(long size) { f_kept = malloc(size); }
void expect(long number, const char* text, const char* digits) {
  if (number != -5 || strcmp(text, "a b") != 0 || strcmp(digits, "12") != 0) abort();
}
void descriptor() { open("/dev/null", O_RDONLY); }
void raise_error() { throw std::runtime_error("no such luck"); }
void raise_number() { throw 5; }
void crash() { raise(SIGSEGV); }
void hang() { for (;;) pause(); }
void leave() { exit(3); }
void fork_here() { if (fork() < 0) abort(); }
void environment() { if (getenv("LD_PRELOAD") || getenv("WEFT_LEAKS_REQUEST")) abort(); }
}

int main(int count, char** words) {
  const char* const what = count > 1 ? words[1] : "";
  char name[4096];
  snprintf(name, sizeof name, "%s/leaks-XXXXXX", getenv("TMPDIR"));
  if (strcmp(what, "file") == 0) close(mkstemp(name));
  if (strcmp(what, "once") == 0) {
    snprintf(name, sizeof name, "%s/once", getenv("TMPDIR"));
    close(open(name, O_CREAT | O_RDWR, 0600));
  }
  if (strcmp(what, "segment") == 0) printf("%d\n", shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));
  if (strcmp(what, "daemon") == 0 && fork() == 0) { setsid(); for (;;) pause(); }
  if (strcmp(what, "hang") == 0) for (;;) pause();
  if (strcmp(what, "crash") == 0) abort();
  return strcmp(what, "fail") == 0 ? 3 : 0;
}
"""


@pytest.fixture(scope="module")
def functions(tmp_path_factory):
    path = tmp_path_factory.mktemp("functions") / "functions.py"
    path.write_text(FUNCTIONS)
    return path


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """The folder of a program, a library, and a static program, of the same source."""
    folder = tmp_path_factory.mktemp("native")
    for name, flags in {"program": ["-rdynamic"], "library.so": ["-shared", "-fPIC"], "static": ["-static"]}.items():
        done = subprocess.run(["c++", "-x", "c++", "-", "-o", folder / name, *flags], input=NATIVE, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def leaks(weft, tmp_path):
    """leaks(*arguments) -> (exit code, its results by JSON), with folders of its own."""

    def run(*arguments, **options):
        report = tmp_path / "report.json"
        (tmp_path / "tmp").mkdir(exist_ok=True)
        done = weft("leaks", "--python", sys.executable, "--json", report, *arguments,
                    env={"TMPDIR": str(tmp_path / "tmp"), **options.pop("env", {})}, **options)
        assert done.returncode != 2, done.stderr
        return done.returncode, json.loads(report.read_text())["results"]

    return run


def only(code_and_results):
    code, [result] = code_and_results
    return code, result
