"""The examples of docs/guides/python.md, actors.md, heap.md, leaks.md, leaks-pytest.md and cpp.md run: each ```python block as a program
of its own (leaks-pytest.md: as tests), the ```cpp blocks
compiled as one program against the public headers. Blocks that say `fragment` are shown only."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("WEFT_BUILD", ROOT / "build"))
_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(name, language):
    """The line and the text of each block that is to run."""
    text = (ROOT / "docs/guides" / name).read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        assert match.group(2) in ("", " fragment"), f"{name}: ```{match.group(1)}{match.group(2)}: not a known word"
        if match.group(1) == language and not match.group(2):
            found.append((text.count("\n", 0, match.start()) + 2, match.group(3)))
    assert found
    return found


def each_of(examples):
    return [pytest.param(*example, id=f"line {example[0]}") for example in examples]


def run_python(guide, line, text, folder):
    pytest.importorskip("weft")
    program = folder / "example.py"
    program.write_text(text)
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, ""), f"docs/guides/{guide}:{line}"


@pytest.mark.parametrize(("line", "text"), each_of(blocks("python.md", "python")))
def test_python(line, text, tmp_path):
    run_python("python.md", line, text, tmp_path)


@pytest.mark.parametrize(("line", "text"), each_of(blocks("actors.md", "python")))
def test_actors(line, text, tmp_path):
    run_python("actors.md", line, text, tmp_path)


@pytest.mark.parametrize(("line", "text"), each_of(blocks("heap.md", "python")))
def test_heap(line, text, tmp_path):
    run_python("heap.md", line, text, tmp_path)


@pytest.mark.parametrize(("line", "text"), each_of(blocks("leaks.md", "python")))
def test_leaks(line, text, tmp_path):
    run_python("leaks.md", line, text, tmp_path)


def test_leaks_pytest(tmp_path):
    pytest.importorskip("weft")
    ((_, text),) = blocks("leaks-pytest.md", "python")
    (tmp_path / "test_it.py").write_text(text)
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", tmp_path], cwd=tmp_path, capture_output=True,
                          text=True, timeout=60, check=False)
    assert "1 failed, 3 passed" in done.stdout, done.stdout
    assert re.search(r"MemoryLeakError: memory kept increasing after \d+ runs of '[\w.]*append'\nE +Run # 1: ", done.stdout), done.stdout


def source(examples):
    """Each block in a function, what it includes above all of them; main() runs that of the number it is given."""
    includes, functions, calls = {"#include <cstdlib>"}, [], []  # cstdlib: atoi
    for line, text in examples:
        lines = text.split("\n")
        includes |= {each for each in lines if each.startswith("#include")}
        rest = "\n".join("" if each.startswith("#include") else each for each in lines)
        assert "int main()" in rest, f"cpp.md:{line}: no program; say `fragment` if it is to be shown only"
        body = rest.replace("int main()", "void run()")
        functions.append(f'namespace at_{line} {{\n#line {line} "cpp.md"\n{body}}}\n')
        calls.append(f"    case {line}: at_{line}::run(); return 0;")
    head = "\n".join(sorted(includes))
    choice = "\n".join(calls)
    main = f"int main(int, char** arguments) {{\n  switch (atoi(arguments[1])) {{\n{choice}\n  }}\n  return 99;\n}}\n"
    return "\n\n".join([head, *functions, main])


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    library = BUILD / "src/install/libweft.so"
    if not library.exists():
        pytest.skip(f"{library} is not built")
    folder = tmp_path_factory.mktemp("guide")
    (folder / "guide.cpp").write_text(source(blocks("cpp.md", "cpp")))
    compiler = os.environ.get("CXX", "c++")
    command = [compiler, "-std=c++20", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'include'}", "guide.cpp"]
    command += ["-o", "guide", str(library), f"-Wl,-rpath,{library.parent}", "-pthread"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "guide"


@pytest.mark.parametrize(("line", "_text"), each_of(blocks("cpp.md", "cpp")))
def test_cpp(line, _text, program):
    done = subprocess.run([str(program), str(line)], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, ""), f"docs/guides/cpp.md:{line}"
