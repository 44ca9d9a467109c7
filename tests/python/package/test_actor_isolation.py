"""weft.actor: what sender and actor share of a message, and of an answer."""

import dataclasses
import enum
import threading
from types import MappingProxyType
from typing import NamedTuple

import pytest

from weft.actor import Actor, ActorRegistry


class Keeper(Actor):
    def __init__(self):
        self.kept = []

    def on_receive(self, message):
        self.kept.append(message)
        return message

    def keep(self, *args, **kwargs):
        self.kept.append((args, kwargs))
        return self.kept[-1]


class Copier(Keeper):
    message_isolation = "copy"


class Freezer(Keeper):
    message_isolation = "freeze"


@pytest.fixture
def start():
    refs = []

    def run(kind):
        refs.append(kind.start())
        return refs[-1]

    yield run
    for ref in refs:
        ref.stop()
    assert ActorRegistry.get_all() == []


def test_shared(start):
    message = [1]
    assert start(Keeper).ask(message) is message


def test_copied(start):
    ref = start(Copier)
    message = {"list": [1]}
    answer = ref.ask(message)
    message["list"].append(2)
    assert answer == {"list": [1]}
    answer["list"].append(3)
    assert ref.ask("next") == "next"
    argument = [1]
    args, kwargs = ref.proxy().keep(argument, key=argument).get()
    argument.append(2)
    assert (args, kwargs) == (([1],), {"key": [1]})
    proxy = ref.proxy()
    proxy.kept = argument
    argument.append(3)
    assert proxy.kept.get() == [1, 2]


def test_references_and_futures_are_handed_on(start):
    for kind in (Copier, Freezer):
        ref = start(kind)
        future = ref.ask(1, block=False)
        assert ref.ask(ref) == ref
        assert ref.ask((future, ref))[0] is future


def test_what_cannot_be_copied(start):
    ref = start(Copier)
    with pytest.raises(TypeError, match="cannot be copied: .*lock.*message_isolation"):
        ref.ask(threading.Lock())
    with pytest.raises(TypeError, match="cannot be copied"):
        ref.tell([threading.Lock()])
    assert ref.ask("alive") == "alive"


class Colour(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: object
    y: object


@dataclasses.dataclass(frozen=True)
class Frozen:
    value: object


@dataclasses.dataclass
class Thawed:
    value: object


@pytest.mark.parametrize(("message", "expected"), [
    ([1, [2, {3}]], (1, (2, frozenset({3})))),
    ({"a": [1]}, MappingProxyType({"a": (1,)})),
    (bytearray(b"x"), b"x"),
    (Point([1], 2), Point((1,), 2)),
    (MappingProxyType({"a": [1]}), MappingProxyType({"a": (1,)})),
], ids=str)
def test_frozen(start, message, expected):
    answer = start(Freezer).ask(message)
    assert answer == expected and type(answer) is type(expected)


@pytest.mark.parametrize("message", [None, True, 1, 1.5, "x", b"x", (1, ("x",)), frozenset({1}), range(3), Colour.RED,
                                     Frozen(1), Point(1, 2), len, int], ids=str)
def test_what_is_frozen_already_is_handed_over(start, message):
    assert start(Freezer).ask(message) == message


@pytest.mark.parametrize("message", [Thawed(1), Frozen([1]), [Thawed(1)], {"a": object()}, threading.Lock()],
                         ids=lambda message: type(message).__name__)
def test_what_cannot_be_frozen(start, message):
    ref = start(Freezer)
    with pytest.raises(TypeError, match="cannot be frozen: .* can be changed"):
        ref.ask(message)
    assert ref.ask("alive") == "alive"


def test_a_list_in_itself_is_refused(start):
    message = []
    message.append(message)
    with pytest.raises(RecursionError):
        start(Freezer).ask(message)


def test_answers_are_isolated_too(start):
    class Answering(Freezer):
        def on_receive(self, message):
            return Thawed(1) if message == "thawed" else [1]

    ref = start(Answering)
    assert ref.ask("list") == (1,)
    with pytest.raises(TypeError, match="cannot be frozen"):
        ref.ask("thawed")
    assert ref.is_alive()


def test_arguments_by_name_stay_arguments(start):
    assert start(Freezer).proxy().keep([1], key=[2]).get() == (((1,),), MappingProxyType({"key": (2,)}))


def test_isolations_that_are_none():
    with pytest.raises(ValueError, match="message_isolation must be"):
        type("Wrong", (Actor,), {"message_isolation": "burn"}).start()
