import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cli_support import PRELOAD, PYTHONS, WEFT, clean_environment  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def built():
    for path in (WEFT, PRELOAD):
        if not path.exists():
            pytest.fail(f"{path} is missing: run `make build`, or set WEFT_BUILD_DIR", pytrace=False)


@pytest.fixture(params=PYTHONS.values(), ids=PYTHONS.keys())
def python(request):
    return request.param


@pytest.fixture
def weft():
    """weft(*arguments) runs the program to its end."""

    def run(*arguments, env=None, program=WEFT, **options):
        return subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, timeout=60,
                              env=clean_environment(**(env or {})), **options)

    return run


@pytest.fixture
def start():
    """start(*arguments) starts `weft` and waits until it has written a line; what is left is killed afterwards."""
    started = []

    def run(*arguments, env=None):
        process = subprocess.Popen([str(WEFT), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, env=clean_environment(**(env or {})))
        started.append(process)
        process.first_line = process.stdout.readline()
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def compile_c(tmp_path):
    """compile_c(name, source, *flags, language="c") -> path; skips where there is no compiler for it."""
    compiler = shutil.which("cc") or shutil.which("gcc")

    def build(name, source, *flags, language="c"):
        if not compiler:
            pytest.skip("no C compiler")
        output = tmp_path / name
        done = subprocess.run([compiler, "-x", language, "-", "-o", str(output), *flags], input=source, text=True,
                              capture_output=True)
        if done.returncode:
            pytest.skip(f"the compiler cannot build this: {done.stderr.splitlines()[-1:]}")
        return output

    return build
