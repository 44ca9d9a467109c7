import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parent, HERE.parents[1] / "support"):
    sys.path.insert(0, str(folder))

pytest_plugins = ["weft_run", "servers"]
