"""What the tests of the `weft` program share. WEFT_BUILD_DIR says which build is tested; ./build is the default."""

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("WEFT_BUILD_DIR", ROOT / "build")).resolve()
WEFT = BUILD / "cli" / "weft"
PRELOAD = BUILD / "preload" / "libweft-preload.so"


def pythons():
    """The interpreter that runs the tests, and a newest patch release of each supported version of pyenv."""
    found = {"own": os.path.realpath(sys.executable)}
    for path in sorted(Path.home().glob(".pyenv/versions/3.1[123].*/bin/python3")):
        found[".".join(path.parts[-3].split(".")[:2])] = str(path)
    return found


PYTHONS = pythons()


def clean_environment(**changes):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WEFT_", "LD_", "PYTHON"))}
    return {**kept, **changes}


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.01)
