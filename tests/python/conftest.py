import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
for folder in ("support", "conformance"):
    sys.path.insert(0, str(TESTS / folder))

pytest_plugins = ["weft_run", "servers"]
