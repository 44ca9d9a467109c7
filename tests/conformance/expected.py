"""Reads tests/conformance/expected/: the differences that remain, each with its reason.

expected/<suite>.toml holds single tests:

    [[test]]
    id = "test.test_socket.SomeTest.test_x"     # one test; no patterns
    pythons = ["3.12", "3.13"]
    backends = ["io_uring", "epoll"]
    reason = "why it cannot be fixed"
    reproduction = "expected/reproductions/x.py" # relative to tests/conformance
    flaky = true                                  # optional: it passes at times, which is then not reported as stale

expected/pins.toml holds the calls that may really block:

    [[pin]]
    call = "poll"
    library = "_psycopg*.so"                      # a pattern for the file's name
    reason = "why it holds the interpreter's lock while it waits"
"""

import fnmatch
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "expected"
BACKENDS = ("io_uring", "epoll")


class BadExpectation(Exception):
    """An expected/ file does not say what it must; the message names file and entry."""


@dataclass(frozen=True)
class Entry:
    id: str
    pythons: tuple[str, ...]
    backends: tuple[str, ...]
    reason: str
    reproduction: str
    flaky: bool = False

    def applies(self, minor, backend):
        return minor in self.pythons and backend in self.backends


@dataclass(frozen=True)
class Pin:
    call: str
    library: str
    reason: str

    def covers(self, pin):
        return pin["call"] == self.call and fnmatch.fnmatchcase(os.path.basename(pin["library"] or ""), self.library)


def _read(path, table, kind, needed, optional=()):
    if not path.exists():
        return []
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise BadExpectation(f"{path}: {error}") from None
    if set(content) - {table}:
        raise BadExpectation(f"{path}: unknown tables {sorted(set(content) - {table})}; only [[{table}]] is known")
    entries = []
    for number, fields in enumerate(content.get(table, []), 1):
        where = f"{path}: [[{table}]] number {number}"
        lacking = [name for name in needed if not fields.get(name)]
        unknown = set(fields) - set(needed) - set(optional)
        if lacking or unknown:
            raise BadExpectation(f"{where}: lacks {lacking}, has unknown {sorted(unknown)}")
        entries.append(kind(**{key: tuple(value) if isinstance(value, list) else value
                               for key, value in fields.items()}))
    return entries


def load_tests(suite, folder=FOLDER):
    """The listed tests of `suite`, each checked to be a single test with an existing reproduction."""
    path = folder / f"{suite}.toml"
    entries = _read(path, "test", Entry, ("id", "pythons", "backends", "reason", "reproduction"), ("flaky",))
    for entry in entries:
        if any(character in entry.id for character in "*?[") or not entry.id.startswith(f"test.{suite}."):
            raise BadExpectation(f"{path}: '{entry.id}' is not the id of a single test of {suite}")
        if set(entry.backends) - set(BACKENDS):
            raise BadExpectation(f"{path}: {entry.id}: backends must be of {BACKENDS}")
        if not (folder.parent / entry.reproduction).is_file():
            raise BadExpectation(f"{path}: {entry.id}: no such reproduction: {entry.reproduction}")
    return entries


def load_pins(folder=FOLDER):
    return _read(folder / "pins.toml", "pin", Pin, ("call", "library", "reason"))


def entry_for(entries, test, minor, backend):
    return next((entry for entry in entries if entry.id == test and entry.applies(minor, backend)), None)
