"""Where the test suites of the packages come from whose API Weft promises."""

import os
import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as xml
from dataclasses import dataclass
from pathlib import Path

from weft_run import clean_environment

ROOT = Path(__file__).resolve().parents[3]
KEPT = ROOT / "build" / "peers"
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Peer:
    """A package, and the folder with tests in its source distribution; "" stands for all of it."""

    name: str
    version: str
    sha256: str
    tests: str = "tests"

    @property
    def stem(self):
        return f"{self.name}-{self.version}"


class NotRun(Exception):
    """The suite, or what it needs, cannot be had; the message says why."""


def pip(*arguments):
    return subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
                          capture_output=True, text=True, check=False)


def fetch(peer):
    """The folder that holds the peer's tests: of WEFT_PEER_SUITES if that has a checkout, else of the source
    distribution on PyPI, which is kept in build/peers/. Raises NotRun."""
    given = os.environ.get("WEFT_PEER_SUITES")
    if given:
        for folder in (Path(given) / peer.stem, Path(given) / peer.name):
            if (folder / peer.tests).is_dir():
                return folder / peer.tests
    KEPT.mkdir(parents=True, exist_ok=True)
    archive = KEPT / f"{peer.stem}.tar.gz"
    if not archive.exists():
        requirement = KEPT / f"{peer.stem}.txt"
        requirement.write_text(f"{peer.name}=={peer.version} --hash=sha256:{peer.sha256}\n")
        done = pip("download", "--no-deps", "--no-binary", peer.name, "--require-hashes", "--requirement", requirement,
                   "--dest", KEPT)
        if not archive.exists():
            raise NotRun(f"the source of {peer.stem} could not be fetched from PyPI, and WEFT_PEER_SUITES names no "
                         f"checkout of it: {done.stderr.strip()[-500:]}")
    with tarfile.open(archive) as whole:
        wanted = f"{peer.stem}/{peer.tests}".rstrip("/") + "/"
        members = [m for m in whole.getmembers() if m.name.startswith(wanted)]
        if not members:
            raise NotRun(f"the source distribution of {peer.stem} has no tests, and WEFT_PEER_SUITES names no checkout")
        whole.extractall(KEPT, members=members)  # its checksum is pinned above
    return KEPT / peer.stem / peer.tests


def packages(name, *requirements):
    """A folder in build/peers/ with these packages of PyPI, and with nothing that they depend on. Raises NotRun."""
    folder = KEPT / f"{name}-python{sys.version_info.major}.{sys.version_info.minor}"
    stamp = folder / "requirements.txt"
    if not stamp.exists() or stamp.read_text().split() != list(requirements):
        done = pip("install", "--no-deps", "--upgrade", "--target", folder, *requirements)
        if done.returncode != 0:
            raise NotRun(f"{' '.join(requirements)} could not be installed from PyPI: {done.stderr.strip()[-500:]}")
        stamp.write_text("\n".join(requirements))
    return folder


@dataclass(frozen=True)
class Outcome:
    """The names of the tests by how they ended, how many threads were fibers and OS threads, and what was written where."""

    passed: frozenset[str]
    failed: frozenset[str]
    skipped: frozenset[str]
    fibers: int
    natives: int
    output: str
    errors: str


def run(folder, *, weft=(), plugin="stand_in_for_pykka", path=(), **environment):
    """Runs `folder`/tests by pytest, in a process of its own that is started by the command `weft`."""
    results = folder / "results.xml"
    results.unlink(missing_ok=True)
    done = subprocess.run(
        [*weft, sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", folder, "-p", plugin,
         "-p", "no:cacheprovider", "--timeout=30", f"--junit-xml={results}", "tests"],
        cwd=folder, text=True, capture_output=True, timeout=300, check=False,
        env=clean_environment(PYTHONPATH=os.pathsep.join(map(str, (HERE, folder, *path))), **environment))
    assert results.exists(), done.stdout + done.stderr
    names = {"passed": set(), "failed": set(), "skipped": set()}
    for case in xml.parse(results).getroot().iter("testcase"):
        ended = {child.tag for child in case}
        how = "failed" if ended & {"failure", "error"} else "skipped" if "skipped" in ended else "passed"
        names[how].add(f"{case.get('classname')}::{case.get('name')}")
    fibers, natives = map(int, re.search(r"threads started: (\d+) fibers, (\d+) OS threads", done.stderr).groups())
    return Outcome(**{how: frozenset(those) for how, those in names.items()}, fibers=fibers, natives=natives,
                   output=done.stdout, errors=done.stderr)
