"""What the Python benchmarks share: one measurement made plain, under gevent and under `weft run`, by turns, and a table
of medians.

A benchmark is a function that makes its measurement in the process that calls it, and returns {figure: number}. Each
run is a process of its own: the script again, with --measure, which prints the figures as JSON.
"""

import argparse
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIME_LIMIT = 300
WEFT = "weft run"


class Failed(Exception):
    """A run gave no figures; the message is its last words."""


def memory_kib():
    """Memory of this process, page tables included."""
    with open("/proc/self/status", encoding="ascii") as status:
        values = dict(line.split(":", 1) for line in status)
    return sum(int(values[name].split()[0]) for name in ("VmRSS", "VmPTE"))


def publish(figures):
    """Prints the figures and ends the process, whatever its threads are doing."""
    print(json.dumps(figures), flush=True)
    os._exit(0)


def _run(prefix, script, case):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WEFT_", "LD_"))}
    environment["PYTHONPATH"] = str(Path(script).resolve().parent)  # gevent.monkey does not add it
    command = [*prefix, script, "--measure", json.dumps(case)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, env=environment, check=False)
    except subprocess.TimeoutExpired:
        raise Failed(f"not within {TIME_LIMIT} s") from None
    if done.returncode != 0:
        raise Failed((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return json.loads(done.stdout)


def _report_progress(text):
    """On standard error; on a terminal in one line, which the next text replaces."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def _side_by_side(sides, script, case, runs):
    """{side: {figure: median}, or the reason why there is none}."""
    results = {name: [] for name in sides}
    for number in range(runs):
        for name, prefix in sides.items():
            if isinstance(results[name], str):
                continue
            _report_progress(f"{_label(case)}, run {number + 1} of {runs}: {name}")
            try:
                results[name].append(_run(prefix, script, case))
            except Failed as failure:
                results[name] = str(failure)
    _report_progress("")
    return {name: figures if isinstance(figures, str) else
            {figure: statistics.median(one[figure] for one in figures) for figure in figures[0]}
            for name, figures in results.items()}


def _label(case):
    return ", ".join(f"{value:,} {name}" for name, value in case.items())


def _number(value):
    if value is None:
        return "-"
    return f"{value:,.2f}" if isinstance(value, float) and abs(value) < 100 else f"{value:,.0f}"


def _print_row(label, *columns):
    print(f"{label:<30}" + "".join(f"{column:>14}" for column in columns))


def _print_head(sides):
    _print_row("", *sides, *(f"weft/{name}" for name in sides if name != WEFT))


def _print_rows(case, results):
    print(_label(case))
    for side, reason in results.items():
        if isinstance(reason, str):
            print(f"  {side} gives no figures: {reason}")
    sides = {name: {} if isinstance(figures, str) else figures for name, figures in results.items()}
    for figure in next((figures for figures in sides.values() if figures), {}):
        values = {name: figures.get(figure) for name, figures in sides.items()}
        ratios = [f"{values[WEFT] / value:,.2f}" if value and values[WEFT] else ""
                  for name, value in values.items() if name != WEFT]
        _print_row(f"  {figure}", *map(_number, values.values()), *ratios)


def _sides(options, peers):
    """{name: the command that runs a script so}."""
    sides = {"python3": [sys.executable]}
    if "gevent" in peers:
        if importlib.util.find_spec("gevent"):
            sides["gevent"] = [sys.executable, "-m", "gevent.monkey"]
        else:
            print("gevent is not installed, and left out: scripts/setup installs it")
    sides[WEFT] = [options.weft, "run", *options.weft_option, sys.executable]
    return sides


def _parse_arguments(document, cases, quick):
    parser = argparse.ArgumentParser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one run: shows that it works, and no more")
    parser.add_argument("--runs", type=int, default=3, help="of each kind, by turns; medians are printed (default: 3)")
    parser.add_argument("--weft", default=str(ROOT / "build" / "cli" / "weft"), help="default: build/cli/weft")
    parser.add_argument("--weft-option", action="append", default=[], metavar="OPTION",
                        help="passed to `weft run`, such as --weft-option=--backend=epoll; repeatable")
    parser.add_argument("--measure", type=json.loads, metavar="CASE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be positive")
    if options.measure is None and not os.access(options.weft, os.X_OK):
        parser.error(f"no weft at {options.weft}: run `make build`")
    options.cases = quick if options.quick else cases
    options.runs = 1 if options.quick else options.runs
    return options


def main(document, measure, cases, quick, peers=("gevent",)):
    """The body of a benchmark script. `measure(**case)` is its function, `cases` and `quick` are lists of what it is
    called with. Returns the exit code: what the others cannot do is said in the table, what Weft cannot is a failure.
    """
    options = _parse_arguments(document, cases, quick)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if options.measure is not None:
        publish(measure(**options.measure))
    print(document.splitlines()[0])
    print(f"CPython {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores, load "
          f"{os.getloadavg()[0]:.1f}; medians, runs of each kind by turns: {options.runs}")
    sides = _sides(options, peers)
    _print_head(sides)
    complete = True
    for case in options.cases:
        results = _side_by_side(sides, sys.argv[0], case, options.runs)
        _print_rows(case, results)
        complete &= isinstance(results[WEFT], dict)
    return 0 if complete else 1
