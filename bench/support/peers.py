"""Where the benchmarks have their peers from."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def peer_python(package, *more):
    """An interpreter that has the peer, and Weft's environment does not."""
    folder = ROOT / "build" / "bench" / package.replace("==", "-")
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {package} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package, *more],
                       check=True)
    return python


def add_peer(package, *more):
    """Makes what peer_python() has importable here, behind all else. The same interpreter has made it."""
    python = peer_python(package, *more)
    found = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('platlib'))"],
                           stdout=subprocess.PIPE, text=True, check=True)
    sys.path.append(found.stdout.strip())
