"""Every public call is leak-tested with weft.leaks, or stands here with the reason why not.

The tests are in test_leaks_of_ours_*.py: each has CASES, functions by the public names that they call. Here those are compared
with what the package exports; so a new public call without a leak test makes this red.
"""

import importlib.util
import re
from pathlib import Path

import pytest

import public_calls

FILES = sorted(Path(__file__).parent.glob("test_leaks_of_ours_*.py"))

NOT_TESTED = {
    "actor.install_as_pykka": "acts once in a process: later calls find their work done",
    "process.install_as_mirakuru": "acts once in a process: later calls find their work done",
    "process.fixtures.reserve_ports": "a fixture of pytest, which calls it; ReservedPort, which it makes, is tested",
    "process.fixtures.reserved_port": "a fixture of pytest, which calls it; ReservedPort, which it makes, is tested",
    "process.fixtures.service": "makes a fixture once for a module; the executor's start and stop are tested",
    "actor.typing.ActorMemberMixin.on_failure": "a type for checkers: the very functions of Actor",
    "actor.typing.ActorMemberMixin.on_receive": "a type for checkers: the very functions of Actor",
    "actor.typing.ActorMemberMixin.on_start": "a type for checkers: the very functions of Actor",
    "actor.typing.ActorMemberMixin.on_stop": "a type for checkers: the very functions of Actor",
    "actor.typing.ActorMemberMixin.stop": "a type for checkers: the very functions of Actor",
}


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tested():
    """Public names, and the source of the tests that are said to call them."""
    found = {}
    for path in FILES:
        module = load(path)
        source = path.read_text(encoding="utf-8").partition("\nCASES = ")[0]
        for names in module.CASES.values():
            found.update({module.MODULE + name: source for name in names.split()})
    return found


def public():
    return {name.removeprefix("weft.") for name in public_calls.names()}


def test_each_public_call_is_tested_or_the_reason_is_told(tested):
    missing = public() - set(tested) - set(NOT_TESTED)
    assert not missing, "public calls without a leak test, in test_leaks_of_ours_*.py, nor a reason in NOT_TESTED"


def test_nothing_stands_here_that_is_not_public(tested):
    assert not set(tested) - public() and not set(NOT_TESTED) - public()
    assert not set(tested) & set(NOT_TESTED)
    assert all(len(reason) > 20 for reason in NOT_TESTED.values())


def test_what_is_said_to_be_called_is_named_there(tested):
    unnamed = [name for name, source in tested.items() if not re.search(rf"\b{name.rpartition('.')[2]}\b", source)]
    assert not unnamed
