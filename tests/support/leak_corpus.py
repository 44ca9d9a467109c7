"""Functions that leak and functions that do not, made from seeds: what `make leak-rates` measures verdicts with."""

import collections
import functools
import io
import json
import random
import re
import subprocess
import sysconfig
import threading
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "python" / "package" / "leaky.c"


def build(folder):
    """The extension module that loses blocks, built into `folder`."""
    target = Path(folder) / f"leaky{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not target.exists():
        include = sysconfig.get_paths()["include"]
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-I", include, "-o", target, SOURCE], check=True)
    spec = spec_from_file_location("leaky", target)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _history(r):
    kept = collections.deque(maxlen=r.randint(10, 500))
    return lambda: kept.append("x" * r.randint(16, 2000))


def _cache(r):
    known, size = {}, r.randint(50, 3000)

    def use():
        key = r.randrange(size)
        if key not in known:
            known[key] = [key]

    return use


def _lru_cache(r):
    cached = functools.lru_cache(maxsize=r.randint(1, 2000))(lambda key: [key])
    return lambda: cached(r.randrange(5000))


def _turnover(r):
    kept, size = {}, r.randint(10, 500)

    def turn():
        key = r.randrange(size)
        if key in kept:
            del kept[key]
        else:
            kept[key] = "y" * r.randint(10, 1500)

    return turn


def _exception(r):
    def fail():
        try:
            raise ValueError("x" * r.randint(1, 100))
        except ValueError:
            pass

    return fail


def _cycle(r):
    def tie():
        ring = [None] * r.randint(1, 20)
        ring[0] = ring

    return tie


def _thread(_r):
    def start():
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()

    return start


def _text(r):
    def write():
        stream = io.StringIO()
        for _ in range(10):
            stream.write("abc" * r.randint(1, 100))
        stream.getvalue()

    return write


CLEAN = {
    "nothing": lambda r: lambda: None,
    "strings": lambda r: lambda: [str(i) * r.randint(1, 50) for i in range(r.randint(1, 60))],
    "json": lambda r: lambda: json.loads(json.dumps({str(i): [r.random()] * r.randint(1, 9) for i in range(r.randint(1, 20))})),
    "patterns": lambda r: lambda: re.sub("a+", "b", "caaandaat" * r.randint(1, 20)),
    "buffers": lambda r: lambda: [bytearray(r.randint(1, 200_000)) for _ in range(3)],
    "sorting": lambda r: lambda: sorted([r.random() for _ in range(r.randint(1, 200))]),
    "text": _text,
    "exception": _exception,
    "cycle": _cycle,
    "thread": _thread,
    "history": _history,
    "cache": _cache,
    "lru_cache": _lru_cache,
    "turnover": _turnover,
}  # fmt: skip

SIZES = (16, 64, 256, 4096, 65536, 1 << 20)
EVERY = (1, 10, 100)


def clean(seed):
    """(kind, function) of a function that does not leak."""
    r = random.Random(f"clean {seed}")
    kind = r.choice(sorted(CLEAN))
    return kind, CLEAN[kind](r)


def leaking(seed, leaky):
    """(kind, function) of one that loses a block in each call, or in each 10th or 100th, or as often by chance; alone, or
    beside something that does not leak."""
    r = random.Random(f"leaking {seed}")
    size, every = r.choice(SIZES), r.choice(EVERY)
    beside = CLEAN[r.choice(("nothing", "nothing", "strings", "history", "cache", "turnover"))](r)
    by_chance = r.random() < 0.5

    def lose():
        beside()
        leaky.block(True, size, 1) if by_chance and r.randrange(every) == 0 else None
        if not by_chance:
            leaky.block(True, size, every)

    return f"each {every}" if every > 1 else "each call", lose
