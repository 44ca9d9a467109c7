"""Finds the CPythons of this machine that carry their own test suite."""

import glob
import json
import os
import shutil
import subprocess
from dataclasses import dataclass

OLDEST_MINOR = 11
_PROBE = """
import json, os, sys, importlib.util as u
print(json.dumps({"implementation": sys.implementation.name, "version": list(sys.version_info[:3]),
    "executable": os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
    "tests": u.find_spec("test.test_queue") is not None}))
"""


@dataclass(frozen=True)
class Python:
    path: str
    version: tuple[int, int, int]

    @property
    def minor(self):
        return f"{self.version[0]}.{self.version[1]}"

    @property
    def name(self):
        return ".".join(map(str, self.version))


class Unusable(Exception):
    """The interpreter cannot be tested; the message says why."""


def probe(path):
    """The interpreter at `path`, or Unusable. A pyenv shim or a virtual environment leads to the real one."""
    try:
        done = subprocess.run([path, "-I", "-c", _PROBE], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unusable(f"{path}: {error}") from None
    if done.returncode != 0:
        raise Unusable(f"{path}: {done.stderr.strip() or 'does not run'}")
    facts = json.loads(done.stdout)
    if facts["implementation"] != "cpython":
        raise Unusable(f"{path}: {facts['implementation']}, not CPython")
    if tuple(facts["version"]) < (3, OLDEST_MINOR):
        raise Unusable(f"{path}: older than 3.{OLDEST_MINOR}")
    if not facts["tests"]:
        raise Unusable(f"{path}: has no `test` package (Debian: apt-get install "
                       f"libpython3.{facts['version'][1]}-testsuite)")
    return Python(facts["executable"], tuple(facts["version"]))


def candidates():
    yield "/usr/bin/python3"
    for minor in range(OLDEST_MINOR, 20):
        found = shutil.which(f"python3.{minor}")
        if found:
            yield found
    root = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    yield from sorted(glob.glob(os.path.join(root, "versions", "3.*", "bin", "python3")))


def discover(everything=False):
    """The CPythons found, one a minor version unless `everything`, and why others are left out."""
    found, problems = {}, []
    for path in candidates():
        if not os.path.exists(path):
            continue
        try:
            python = probe(path)
        except Unusable as problem:
            problems.append(str(problem))
            continue
        found.setdefault(python.path, python)
    pythons = list(found.values())
    if not everything:
        first = {}
        for python in pythons:
            first.setdefault(python.minor, python)
        pythons = list(first.values())
    return sorted(pythons, key=lambda python: python.version), problems
