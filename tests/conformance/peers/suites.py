"""Where the test suites of the packages come from whose API Weft promises."""

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Peer:
    """A package, and the folder with tests in its source distribution."""

    name: str
    version: str
    sha256: str
    tests: str = "tests"

    @property
    def stem(self):
        return f"{self.name}-{self.version}"


class NotRun(Exception):
    """The suite cannot be had; the message says why."""


def fetch(peer):
    """The folder that holds the peer's tests: of WEFT_PEER_SUITES if that has a checkout, else of the source
    distribution on PyPI, which is kept in build/peers/. Raises NotRun."""
    given = os.environ.get("WEFT_PEER_SUITES")
    if given:
        for folder in (Path(given) / peer.stem, Path(given) / peer.name):
            if (folder / peer.tests).is_dir():
                return folder / peer.tests
    kept = ROOT / "build" / "peers"
    kept.mkdir(parents=True, exist_ok=True)
    archive = kept / f"{peer.stem}.tar.gz"
    if not archive.exists():
        requirement = kept / f"{peer.stem}.txt"
        requirement.write_text(f"{peer.name}=={peer.version} --hash=sha256:{peer.sha256}\n")
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--no-binary", peer.name, "--require-hashes", "--requirement", requirement,
             "--dest", kept],
            capture_output=True, text=True, check=False)
        if not archive.exists():
            raise NotRun(f"the source of {peer.stem} could not be fetched from PyPI, and WEFT_PEER_SUITES names no "
                         f"checkout of it: {done.stderr.strip()[-500:]}")
    with tarfile.open(archive) as whole:
        members = [m for m in whole.getmembers() if m.name.startswith(f"{peer.stem}/{peer.tests}/")]
        if not members:
            raise NotRun(f"the source distribution of {peer.stem} has no tests, and WEFT_PEER_SUITES names no checkout")
        whole.extractall(kept, members=members)  # its checksum is pinned above
    return kept / peer.stem / peer.tests
