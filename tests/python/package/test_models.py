"""Channels and select(): random programs, compared with what a model says. Always the same ones."""

import os
from collections import deque
from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weft

FIXED = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


def until(condition):
    with weft.shield(), weft.timeout(5):
        while not condition():
            weft.sleep(0)


# Fibers that each wait for one of several cases. One thing is done at a time, and the model says who goes on by that,
# and with what. Where several cases of a select() can go on at once, the one that was taken must be among them.


@dataclass(eq=False)
class Waiter:
    cases: list  # ("send", channel, item), ("receive", channel), ("readable",), ("done", number), ("past",)
    fiber: weft.Fiber = None
    cancelled: bool = False  # but has not run since: what it waits for may still come first
    ended: tuple = None  # what the model says: ("chosen", number, value), ("closed",), ("cancelled",), ("timeout",)


class ModelChannel:
    def __init__(self, capacity):
        self.real = weft.Channel(capacity)
        self.capacity = capacity
        self.items = deque()
        self.closed = False
        self.waiting = {"send": deque(), "receive": deque()}  # (waiter, number of the case)

    def room(self):
        return self.capacity is None or len(self.items) < self.capacity


class Channels:
    """Operations are drawn without looking at what came of those before: a place in a list is a number, of any size."""

    Place = st.integers(0, 11)
    Transfer = st.tuples(st.sampled_from(["send", "receive"]), Place)
    Case = st.one_of(
        Transfer,
        Transfer,
        st.tuples(st.just("done"), st.integers(0, 1)),
        st.sampled_from([("readable",), ("past",)]),
    )
    Quick = st.one_of(
        st.tuples(st.just("cancel"), Place),
        st.tuples(st.just("try_without_waiting"), st.booleans(), Place),
        st.tuples(st.just("try_without_waiting"), st.booleans(), Place),
        st.tuples(st.just("try_without_waiting"), st.booleans(), Place),
        st.tuples(st.just("close"), Place),
    )
    Operation = st.one_of(
        st.tuples(st.just("wait"), st.just("select"), st.lists(Case, min_size=1, max_size=4)),
        st.tuples(st.just("wait"), st.just("select"), st.lists(Transfer, min_size=2, max_size=3)),
        st.tuples(st.just("wait"), st.sampled_from(["call", "limited"]), st.lists(Transfer, min_size=1, max_size=1)),
        st.tuples(st.just("wait"), st.sampled_from(["call", "past"]), st.lists(Transfer, min_size=1, max_size=1)),
        st.tuples(st.just("at_once"), st.lists(Quick, min_size=1, max_size=1)),
        st.tuples(st.just("at_once"), st.lists(Quick, min_size=2, max_size=4)),
        st.tuples(st.just("at_once"), st.lists(Quick, min_size=3, max_size=6)),
        st.tuples(st.sampled_from(["write", "read"])),
        st.tuples(st.just("let_a_fiber_end"), st.integers(0, 1)),
    )
    Capacities = st.lists(st.sampled_from([0, 0, 1, 2, None]), min_size=1, max_size=2)

    def __init__(self, capacities):
        self.channels = [ModelChannel(capacity) for capacity in capacities]
        self.waiters = []
        self.items = count()
        self.pipe = os.pipe()
        self.in_pipe = 0
        self.gates = [weft.Channel() for _ in range(2)]
        self.gated = [weft.spawn(gate.receive) for gate in self.gates]
        self.open = [False, False]

    def channel(self, place):
        return self.channels[place % len(self.channels)]

    def case(self, drawn):
        match drawn:
            case ("send", place):
                return ("send", self.channel(place), next(self.items))
            case ("receive", place):
                return ("receive", self.channel(place))
        return drawn

    def real_case(self, case):
        match case:
            case ("send", channel, item):
                return weft.sending(channel.real, item)
            case ("receive", channel):
                return channel.real
            case ("readable",):
                return weft.readable(self.pipe[0])
            case ("done", number):
                return self.gated[number]
            case _:
                return weft.after(-1)

    def run(self, cases, how):
        """What the fiber of a waiter does: one case may be a plain call, too."""
        try:
            if how == "select":
                return ("chosen", *weft.select(*map(self.real_case, cases)))
            limit = {"call": None, "limited": 1000, "past": -1}[how]
            if cases[0][0] == "send":
                return ("chosen", 0, cases[0][1].real.send(cases[0][2], timeout=limit))
            return ("chosen", 0, cases[0][1].real.receive(timeout=limit))
        except weft.Closed:
            return ("closed",)
        except weft.Timeout:
            return ("timeout",)
        except weft.Cancelled:
            return ("cancelled",)

    # What can go on is done: the model's half.

    def can_go_on(self, case):
        match case:
            case ("send", channel, _):
                return channel.closed or channel.room() or bool(channel.waiting["receive"])
            case ("receive", channel):
                return channel.closed or bool(channel.items) or bool(channel.waiting["send"])
            case ("readable",):
                return self.in_pipe > 0
            case ("done", number):
                return self.open[number]
        return False

    def end(self, waiter, outcome):
        waiter.ended = outcome
        for channel in self.channels:
            for queue in channel.waiting.values():
                for entry in [entry for entry in queue if entry[0] is waiter]:
                    queue.remove(entry)

    def first(self, channel, kind):
        """Takes the one that has waited longest, and returns its number and its item."""
        waiter, number = channel.waiting[kind][0]
        return waiter, number, waiter.cases[number]

    def do(self, case, number):
        """Returns the outcome of a case that can go on; who waited for that goes on as well."""
        match case:
            case ("send", channel, item):
                if channel.closed:
                    return ("closed",)
                if channel.waiting["receive"]:
                    waiter, its, _ = self.first(channel, "receive")
                    self.end(waiter, ("chosen", its, item))
                else:
                    channel.items.append(item)
                return ("chosen", number, None)
            case ("receive", channel):
                if not channel.items and not channel.waiting["send"]:
                    return ("closed",)
                if channel.waiting["send"]:
                    waiter, its, (_, _, sent) = self.first(channel, "send")
                    self.end(waiter, ("chosen", its, None))
                    channel.items.append(sent)
                return ("chosen", number, channel.items.popleft())
            case ("done", which):
                return ("chosen", number, self.gated[which])
        return ("chosen", number, None)

    def compare(self):
        for waiter in self.waiters:
            if waiter.cancelled and not waiter.ended:
                self.end(waiter, ("cancelled",))
        until(lambda: all(waiter.fiber.done() for waiter in self.waiters if waiter.ended))
        for _ in range(3):
            weft.yield_now()
        for waiter in self.waiters:
            if waiter.ended:
                assert waiter.fiber.result() == waiter.ended, waiter.cases
            assert waiter.fiber.done() == bool(waiter.ended), waiter.cases
        self.waiters = [waiter for waiter in self.waiters if not waiter.ended]
        for channel in self.channels:
            assert len(channel.real) == len(channel.items) and channel.real.closed == channel.closed

    def wait(self, how, drawn):
        cases = [self.case(case) for case in drawn]
        waiter = Waiter(cases)
        waiter.fiber = weft.spawn(self.run, cases, how)
        able = [number for number, case in enumerate(cases) if self.can_go_on(case)]
        past = [number for number, case in enumerate(cases) if case[0] == "past"]
        self.waiters.append(waiter)
        if able:
            # Which one, only the fiber can tell; but for a closed channel, of which no number is told.
            taken = waiter.fiber.result(timeout=5)
            if taken == ("closed",):
                closed = [case for case in map(cases.__getitem__, able) if case[0] in ("send", "receive")]
                closed = [case for case in closed if case[1].closed]
                assert any(kind == "send" or not channel.items for kind, channel, *_ in closed)
                waiter.ended = taken
            else:
                assert taken[0] == "chosen" and taken[1] in able
                waiter.ended = self.do(cases[taken[1]], taken[1])
        elif how == "past":
            waiter.ended = ("timeout",)
        elif past:
            waiter.ended = ("chosen", past[0], None)
            taken = waiter.fiber.result(timeout=5)
            assert taken[0] == "chosen" and taken[1] in past
            waiter.ended = taken
        else:
            for number, case in enumerate(cases):
                if case[0] in ("send", "receive"):
                    case[1].waiting[case[0]].append((waiter, number))
        self.compare()

    def at_once(self, operations):
        """Several, before anybody else runs."""
        for name, *arguments in operations:
            getattr(self, name)(*arguments)
        self.compare()

    def cancel(self, place):
        if not self.waiters:
            return
        waiter = self.waiters[place % len(self.waiters)]
        waiter.fiber.cancel()
        waiter.cancelled = True

    def try_without_waiting(self, sending, place):
        channel = self.channel(place)
        case = ("send", channel, next(self.items)) if sending else ("receive", channel)
        expected = self.do(case, 0) if self.can_go_on(case) else ("chosen", 0, "nothing")
        try:
            if case[0] == "send":
                outcome = ("chosen", 0, None if channel.real.try_send(case[2]) else "nothing")
            else:
                outcome = ("chosen", 0, channel.real.try_receive("nothing"))
        except weft.Closed:
            outcome = ("closed",)
        assert outcome == expected

    def close(self, place):
        channel = self.channel(place)
        assert channel.real.close() == (not channel.closed)
        channel.closed = True
        for queue in channel.waiting.values():
            while queue:
                self.end(queue[0][0], ("closed",))

    def ended_by(self, *case):
        for waiter in self.waiters:
            if not waiter.ended and case in waiter.cases:
                number = waiter.cases.index(case)
                self.end(waiter, self.do(case, number))
                if waiter.cases.count(case) > 1:
                    waiter.ended = waiter.fiber.result(timeout=5)
                    assert waiter.ended[0] == "chosen" and waiter.cases[waiter.ended[1]] == case

    def write(self):
        if self.in_pipe:
            return
        os.write(self.pipe[1], b"x")
        self.in_pipe = 1
        self.ended_by("readable")
        self.compare()

    def read(self):
        if not self.in_pipe:
            return
        os.read(self.pipe[0], 1)
        self.in_pipe = 0

    def let_a_fiber_end(self, number):
        if self.open[number]:
            return
        self.gates[number].send(None)
        self.gated[number].join()
        self.open[number] = True
        self.ended_by("done", number)
        self.compare()

    def finish(self):
        for fiber in [waiter.fiber for waiter in self.waiters] + self.gated:
            fiber.cancel()
            fiber.join()
        # Nobody is left on a queue: what is sent now stays where it is, and nothing but that is there.
        for channel in self.channels:
            while not channel.closed and channel.capacity is not None and channel.items:
                assert channel.real.try_receive() == channel.items.popleft()
            if not channel.closed:
                assert channel.real.try_send("last") == channel.room()
                assert channel.real.try_receive("nothing") != "nothing" or channel.capacity == 0
        for end in self.pipe:
            os.close(end)


@settings(FIXED, max_examples=250)
@given(Channels.Capacities, st.lists(Channels.Operation, min_size=10, max_size=40))
def test_channels_and_select(capacities, operations):
    program = Channels(capacities)
    try:
        for name, *arguments in operations:
            getattr(program, name)(*arguments)
    finally:
        program.finish()
