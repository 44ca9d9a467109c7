"""Every public call in C++ is leak-tested, by tests/unit/leaks/public_calls_*_test.cpp, or stands here with the reason why not.

Suites there are named after the class whose functions they call: SemaphoreLeaks after Semaphore. A function of a class is to be
called in its suite, one of a namespace in any; each public header is to be included. Constructors count as called where the class
is named, operators are not looked for.
"""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from header_parser import parse  # noqa: E402
from reference_cpp import public_headers  # noqa: E402

TESTS = sorted((ROOT / "tests/unit/leaks").glob("public_calls_*_test.cpp"))
HEADERS = public_headers(ROOT / "include")

NOT_TESTED = {
    "LeakOptions.void": "no function: the parser takes std::function<void(...)> for one",
    "Options.void": "likewise",
    "Value.map_of": "private; defined outside the class",
    "Socket.Socket": "a base of all sockets; those are made",
    "TimeLimits.TimeLimits": "a base of what has time limits; that is made",
    "iterator.iterator": "made by Channel::begin()",
}


def without_comments(text):
    return re.sub(r"//[^\n]*", "", text)


@pytest.fixture(scope="module")
def suites():
    """The code of all tests by the name of their suite, and "" for that of all files."""
    found = {"": ""}
    for path in [*TESTS, ROOT / "tests/unit/leaks/public_calls.hpp"]:
        text = without_comments(path.read_text(encoding="utf-8"))
        found[""] += text
        for suite, body in re.findall(r"^TEST\((\w+), \w+\) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
            found[suite] = found.get(suite, "") + body
    return found


def calls():
    """(class or "", function) of all that the public headers declare."""

    def of(entity, owner):
        for member in entity.members:
            if member.kind in ("class", "struct"):
                name = re.sub(r"\W", "", member.name.rpartition("::")[2])
                yield from of(member, name if any(m.kind == "function" for m in member.members) else owner)
            elif member.kind == "namespace":
                yield from of(member, "")
            elif member.kind == "macro" or (member.kind == "function" and not member.name.startswith(("operator", "~"))):
                # Defined outside its class, which has declared it.
                inside = re.search(rf"\b(\w+)::{re.escape(member.name)}\(", member.signature)
                yield (inside.group(1) if inside else owner), member.name

    for path in HEADERS:
        yield from of(parse(path.read_text(encoding="utf-8"), path.name), "")


def test_there_are_tests(suites):
    assert len(TESTS) >= 6 and len(suites) > 40 and len(list(calls())) > 300


@pytest.mark.parametrize("path", HEADERS, ids=lambda path: path.name)
def test_each_public_header_is_included(path, suites):
    assert f'#include "{path.relative_to(ROOT / "include")}"' in suites[""]


def test_each_public_function_is_called(suites):
    missing = set()
    for owner, name in calls():
        constructs = owner == name
        code = suites[""] if constructs or not owner else suites.get(f"{owner}Leaks", "")
        if not re.search(rf"\b{re.escape(name)}\b", code):
            missing.add(f"{owner}.{name}" if owner else name)
    assert missing - set(NOT_TESTED) == set(), "not called in a suite NAMELeaks of tests/unit/leaks/public_calls_*_test.cpp"
    assert missing == set(NOT_TESTED), "these are called: take them off NOT_TESTED"
