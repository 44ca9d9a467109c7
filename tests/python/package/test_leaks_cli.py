"""weft leaks, as the package has it."""

import os
import subprocess
import sys

PROGRAM = os.path.join(sys.prefix, "bin", "weft")


def test_the_packages_program_finds_its_interpreter_and_its_agent(tmp_path):
    (tmp_path / "mine.py").write_text("kept = []\ndef lose():\n    kept.append(b'x' * 100)\n")
    source = "#include <stdlib.h>\nvoid good(void) { free(malloc(64)); }\nint main(void) { return 1; }\n"
    subprocess.run(["cc", "-x", "c", "-", "-rdynamic", "-o", tmp_path / "program"], input=source, text=True, check=True)
    done = subprocess.run([PROGRAM, "leaks", "mine:lose", "./program:good"], capture_output=True, text=True, timeout=60, cwd=tmp_path,
                          check=False)
    assert done.returncode == 1, done
    assert done.stdout.startswith("mine:lose: LEAKS")
    assert "\n./program:good: no leak" in done.stdout
