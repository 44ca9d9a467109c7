"""The Python benchmarks run, plain, under gevent and under weft, and print what they are for. Not what the figures are."""

import json
import re
import subprocess
import sys

import pytest

from weft_run import ROOT, clean_environment, weft_program

FIGURES = {
    "echo": ["round trips/s"],
    "http_server": ["requests/s", "p50, ms", "p99, ms", "clients served", "errors (resets, timeouts)"],
    "lock_ping_pong": ["us a round trip"],
    "preemption": ["least share of a fair one, %", "main wakes late, ms"],
    "raw_threads": ["us each to start", "us each until it sleeps", "KiB each", "memory mappings in all"],
    "thread_start": ["us each", "KiB each"],
}


def run(script, *arguments):
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, timeout=60,
                          env=clean_environment(), check=False)


@pytest.mark.parametrize("name", FIGURES)
def test_benchmark_compares_both_sides(name):
    done = run(ROOT / "bench" / f"{name}.py", "--quick", "--weft", weft_program())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gives no figures" not in done.stdout
    sides = 2 if name == "preemption" else 3
    for figure in FIGURES[name]:
        assert re.search(rf"^  {re.escape(figure)}( +[\d.,]+){{{sides}}}", done.stdout, re.MULTILINE), done.stdout
    assert "run 1 of 1: weft run" in done.stderr


def test_every_benchmark_is_tested():
    assert {script.stem for script in (ROOT / "bench").glob("*.py")} == set(FIGURES) | {
        "actors", "executors", "heap_info", "heap_profile", "leak_checks", "package"}


def test_the_packages_benchmark_has_figures_for_all():
    done = run(ROOT / "bench" / "package.py", "--quick")
    assert done.returncode == 0, done.stderr
    for operation in ("spawn", "pair", "channel", "select", "timeout", "map"):
        assert re.search(rf"^{operation} +[\d.]+", done.stdout, re.MULTILINE), done.stdout
    assert run(ROOT / "bench" / "package.py", "sqawn").returncode == 2


def test_the_actors_benchmark_has_figures_for_all(tmp_path):
    done = run(ROOT / "bench" / "actors.py", "--quick", "--json", tmp_path / "medians")
    assert done.returncode == 0, done.stderr
    for operation in ("tell", "ask", "fan_out", "ring", "start", "memory"):
        assert re.search(rf"^{operation}( +-?[\d.]+){{3}}x", done.stdout, re.MULTILINE), done.stdout
    for operation in ("call", "nested"):
        assert re.search(rf"^{operation} +[\d.]+ .*-$", done.stdout, re.MULTILINE), done.stdout
    medians = json.loads((tmp_path / "medians").read_text())
    assert medians["call"].keys() == {"fiber", "thread", "pykka"}


def test_benchmark_without_weft_says_how_to_get_it():
    done = run(ROOT / "bench" / "echo.py", "--weft", "/nowhere/weft")
    assert done.returncode == 2
    assert "no weft at /nowhere/weft: run `make build`" in done.stderr


def test_benchmark_fails_where_weft_gives_no_figures(tmp_path):
    broken = tmp_path / "weft"
    broken.write_text("#!/bin/sh\necho out of order >&2\nexit 3\n")
    broken.chmod(0o755)
    done = run(ROOT / "bench" / "thread_start.py", "--quick", "--weft", broken)
    assert done.returncode == 1
    assert "weft run gives no figures: out of order" in done.stdout


def test_the_executors_benchmark_has_figures_for_all():
    done = run(ROOT / "bench" / "executors.py", "--quick")
    assert done.returncode == 0, done.stderr
    for operation in ("tcp", "http", "slow", "start", "many", "cpu"):
        assert re.search(rf"^{operation}( +[\d.]+){{3}}x", done.stdout, re.MULTILINE), done.stdout


def test_the_heaps_benchmark_has_figures_for_all():
    done = run(ROOT / "bench" / "heap_info.py", "--quick")
    assert done.returncode == 0, done.stderr
    for operation in ("empty", "holes", "grown", "thread"):
        assert re.search(rf"^{operation}( +[\d.]+){{4}}x", done.stdout, re.MULTILINE), done.stdout


def test_the_leak_checks_benchmark_has_figures_and_wrong_verdicts_for_all(tmp_path):
    done = run(ROOT / "bench" / "leak_checks.py", "--quick", "--json", tmp_path / "figures")
    assert done.returncode == 0, done.stderr
    for kind in ("clean, cache", "clean, all", "leaking, each 100", "leaking, all"):
        assert re.search(rf"^{kind} +\d+( +[\d.]+){{3}}( +\d+){{4}}$", done.stdout, re.MULTILINE), done.stdout
    figures = json.loads((tmp_path / "figures").read_text())
    assert len(figures["clean"]) == 15 and len(figures["leaking"]) == 4
    assert all(side["verdicts"] for kinds in figures.values() for sides in kinds.values() for side in sides.values())


def test_the_leak_checks_benchmark_takes_a_verdict_that_is_late_for_a_wrong_one(tmp_path):
    done = run(ROOT / "bench" / "leak_checks.py", "--quick", "--time-limit", "0.000001", "--json", tmp_path / "figures")
    assert done.returncode == 0, done.stderr
    for sort, total in ("clean", 14), ("leaking", 3):
        for side in json.loads((tmp_path / "figures").read_text())[sort]["all"].values():
            assert (side["verdicts"], side["wrong"], side["late"]) == (total, total, total)


def test_the_heap_profiles_benchmark_has_figures_for_all(tmp_path):
    done = run(ROOT / "bench" / "heap_profile.py", "--quick", "--json", tmp_path / "medians")
    assert done.returncode == 0, done.stderr
    for allocator in ("pymalloc", "malloc"):
        for work in ("json", "containers", "text"):
            assert re.search(rf"^{allocator}, {work} +[\d.]+( +[\d.]+x){{4}}$", done.stdout, re.MULTILINE), done.stdout
    assert json.loads((tmp_path / "medians").read_text())["malloc"]["json"].keys() == {
        "seconds", "sampling", "counting", "tracemalloc", "memray"}
