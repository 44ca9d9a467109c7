"""Timeouts, shields and task groups: random programs, compared with what a model says. Always the same ones."""

import contextlib
import os
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weft

FIXED = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))

# --- Timeouts: nested scopes and shields around waits, and what each of them raises.
#
# Deadlines have passed already or are far away, so that the model needs no clock. A program is a tree; both sides
# write down what they come past.

Wait = st.sampled_from(["sleep", "receive", "at once", "limited", "join", "select", "descriptor"])
Steps = st.recursive(
    st.one_of(Wait.map(lambda kind: ("wait", kind)), Wait.map(lambda kind: ("wait", kind)), st.just(("cancel",))),
    lambda steps: st.one_of(
        st.tuples(st.just("scope"), st.sampled_from([None, -1, 0, 1000, 2000]), st.lists(steps, max_size=4)),
        st.tuples(st.just("again"), st.integers(0, 3), st.lists(steps, max_size=4)),
        st.tuples(st.just("shield"), st.lists(steps, max_size=4)),
        st.tuples(st.just("catch"), st.lists(steps, max_size=4)),
    ),
    max_leaves=12,
)


class Ended(Exception):
    """The model's own: a wait was ended."""


@dataclass
class ScopeModel:
    """What the fiber is in; `frames` has a list of the scopes within each shield, innermost last."""

    frames: list = field(default_factory=lambda: [[]])
    scopes: list = field(default_factory=list)
    cancelled: bool = False
    log: list = field(default_factory=list)

    def due(self):
        if self.cancelled and len(self.frames) == 1:
            return "Cancelled"
        return "Timeout" if any(span is not None and span <= 0 for span in self.frames[-1]) else None

    def run(self, steps):
        for step in steps:
            match step:
                case ("wait", "at once"):
                    pass  # it does not wait
                case ("wait", "limited"):
                    raised = self.due() or "Timeout"
                    self.log.append(raised)
                    raise Ended(raised)
                case ("wait", _):
                    if raised := self.due():
                        self.log.append(raised)
                        raise Ended(raised)
                    self.log.append("waited")
                case ("cancel",):
                    self.cancelled = True
                case ("scope", span, body):
                    self.scopes.append(span)
                    self.within(span, body)
                    self.scopes.pop()
                case ("again", place, body):
                    if self.scopes:
                        self.within(self.scopes[place % len(self.scopes)], body)
                case ("shield", body):
                    self.frames.append([])
                    try:
                        self.run(body)
                    finally:
                        self.frames.pop()
                case ("catch", body):
                    depth = len(self.scopes)
                    try:
                        self.run(body)
                    except Ended:
                        del self.scopes[depth:]
                        self.log.append("caught")
        self.log.append("end")

    def within(self, span, body):
        self.frames[-1].append(span)
        try:
            self.run(body)
        finally:
            self.frames[-1].pop()


class ScopeProgram:
    def __init__(self, pipe):
        self.pipe = pipe
        self.log = []
        self.scopes = []
        self.nothing = weft.Channel()
        self.full = weft.Channel(1)
        self.full.send(None)
        self.never = weft.spawn(weft.Channel().receive)
        self.over = weft.spawn(int)
        self.over.join()

    def wait(self, kind):
        """One without end where the model says that it will be ended, else one that ends at once."""
        model_says_it_is_ended = self.model.pop(0) in ("Timeout", "Cancelled") if kind != "at once" else False
        match kind:
            case "sleep":
                weft.sleep(1000 if model_says_it_is_ended else 0)
            case "at once":
                self.full.receive()
                self.full.send(None)
            case "limited":
                self.nothing.receive(timeout=-1)
            case "receive" if model_says_it_is_ended:
                self.nothing.receive()
            case "join" if model_says_it_is_ended:
                self.never.join()
            case "select" if model_says_it_is_ended:
                weft.select(self.nothing, weft.sending(weft.Channel(), 1), weft.readable(self.pipe[0]))
            case "descriptor" if model_says_it_is_ended:
                weft.wait_readable(self.pipe[0])
            case _:
                weft.sleep(0)

    def run(self, steps):
        for step in steps:
            match step:
                case ("wait", kind):
                    try:
                        self.wait(kind)
                    except (weft.Timeout, weft.Cancelled) as error:
                        self.log.append(type(error).__name__)
                        raise
                    if kind != "at once":
                        self.log.append("waited")
                case ("cancel",):
                    weft.current().cancel()
                case ("scope", span, body):
                    scope = weft.timeout(span)
                    self.scopes.append(scope)
                    self.within(scope, body)
                    self.scopes.pop()
                    assert scope.expired == (span is not None and span <= 0)
                case ("again", place, body):
                    if self.scopes:
                        self.within(self.scopes[place % len(self.scopes)], body)
                case ("shield", body):
                    with weft.shield():
                        self.run(body)
                case ("catch", body):
                    depth = len(self.scopes)
                    try:
                        self.run(body)
                    except (weft.Timeout, weft.Cancelled):
                        del self.scopes[depth:]
                        self.log.append("caught")
        self.log.append("end")

    def within(self, scope, body):
        with scope:
            self.run(body)

    def start(self, steps, model):
        self.model = [entry for entry in model.log if entry in ("Timeout", "Cancelled", "waited")]
        with contextlib.suppress(weft.Timeout, weft.Cancelled):
            self.run(steps)
        # All scopes were left: what waits now ends by the cancellation only.
        if model.cancelled:
            with pytest.raises(weft.Cancelled):
                weft.sleep(1000)
        else:
            weft.sleep(0)


@settings(FIXED, max_examples=200)
@given(st.lists(Steps, min_size=1, max_size=5))
def test_timeouts_and_shields(steps):
    model = ScopeModel()
    with contextlib.suppress(Ended):
        model.run(steps)
    pipe = os.pipe()
    program = ScopeProgram(pipe)
    weft.spawn(program.start, steps, model).result(timeout=20)
    program.never.cancel()
    program.never.join()
    for end in pipe:
        os.close(end)
    assert program.log == model.log


# --- Task groups: trees of them, whose members end in all sorts of ways.
#
# No member looks at another, and what fails does so whether it is cancelled or not, or only if it is. So the model
# can tell what fails without knowing in which order things happen.


class Failure(Exception):
    pass


@dataclass
class Member:
    kind: str
    yields: int = 0
    member: "Member" = None  # "spawn"
    group: "Group" = None  # "group"


@dataclass
class Group:
    members: list
    body: str
    late: bool = False  # a scope around it has expired


Leaf = st.builds(
    Member,
    st.sampled_from(
        ["return", "return", "fail", "wait", "wait", "wait, then fail", "swallow", "cancel itself", "time out"]
        + ["catch its timeout"]
    ),
    st.integers(0, 3),
)
Bodies = st.sampled_from(["end"] * 4 + ["yield", "wait", "raise", "cancel", "cancel itself", "swallow", "leave"])


def groups(members):
    return st.builds(Group, st.lists(members, max_size=4), Bodies, st.sampled_from([False] * 5 + [True]))


Members = st.recursive(
    Leaf,
    lambda members: st.one_of(
        st.builds(Member, st.just("spawn"), st.integers(0, 3), members),
        st.builds(Member, st.just("group"), st.integers(0, 3), st.none(), groups(members)),
    ),
    max_leaves=10,
)


QUIET_ENDS = ("cancel", "cancel itself", "leave")  # bodies that end their groups without an error, and at once


def inner(member):
    """Of one that only spawns another: that one."""
    return inner(member.member) if member.kind == "spawn" else member


def ends_before_members_begin(group):
    """A fiber that is cancelled before it began does not run."""
    return group.body in (*QUIET_ENDS, "raise") or (group.late and group.body != "yield")


def raises(group):
    """An error, if it is left alone."""
    if group.body == "raise" or (group.late and group.body not in ("cancel itself", "leave")):
        return True
    if ends_before_members_begin(group):
        return False
    members = [inner(member) for member in group.members]
    return any(raises(each.group) if each.kind == "group" else each.kind in ("fail", "time out") for each in members)


def ends_by_itself(group):
    if raises(group) or group.body in QUIET_ENDS:
        return True
    if group.body in ("wait", "swallow"):
        return False
    for member in map(inner, group.members):
        if member.kind in ("wait", "wait, then fail", "swallow"):
            return False
        if member.kind == "group" and not ends_by_itself(member.group):
            return False
    return True


def failures(group, cancelled, began):
    """Who must have failed, and how many Timeouts there must be and may be. `began`: the members that ran."""
    must, least, most = set(), 0, 0
    for member in map(inner, group.members):
        if id(member) not in began:
            continue
        if member.kind in ("fail", "wait, then fail"):  # all have ended, so those that waited were cancelled
            must.add(id(member))
        elif member.kind == "time out":
            least, most = least + 1, most + 1
        elif member.kind == "group":
            its, its_least, its_most = failures(member.group, True, began)
            must, least, most = must | its, least + its_least, most + its_most
    if group.body == "raise":
        must.add(id(group))
    if group.late:
        # Where a failure is raised, or a cancellation, it is not told of.
        most += 1
        if not must and most == 1 and not cancelled and group.body not in ("cancel itself", "leave"):
            least += 1
    return must, least, most


def leaves(error):
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]


class GroupRun:
    """A group of a program, while it runs."""

    def __init__(self, node, began):
        self.node, self.began = node, began
        self.group = weft.TaskGroup()
        self.fibers, self.spawned, self.errors = [], [], []  # the errors of its members, in the order of their ends

    def run(self):
        own = None
        try:
            with weft.timeout(-1 if self.node.late else None), self.group:
                for member in self.node.members:
                    self.spawn(member)
                try:
                    self.body(self.node.body)
                except Exception as error:
                    own = error
                    raise
        except ExceptionGroup as raised:
            assert list(raised.exceptions) == ([own] if own else []) + self.errors
            raise
        finally:
            assert all(fiber.done() for fiber in self.fibers)
            assert all(fiber.cancelled() for member, fiber in self.spawned if id(member) not in self.began)
            with pytest.raises(RuntimeError, match="block"):
                self.group.spawn(int)
            self.group.cancel()  # does nothing any more

    def spawn(self, member):
        self.fibers.append(self.group.spawn(self.member, member))
        self.spawned.append((member, self.fibers[-1]))

    def body(self, body):
        match body:
            case "yield":
                weft.yield_now()
            case "wait":
                weft.sleep(1000)
            case "raise":
                raise Failure(id(self.node))
            case "cancel":
                self.group.cancel()
                weft.sleep(1000)
            case "cancel itself":
                weft.current().cancel()
            case "swallow":
                with contextlib.suppress(weft.Cancelled):
                    weft.sleep(1000)
            case "leave":
                raise weft.Cancelled  # as that of another fiber, from its result()

    def member(self, member):
        self.began.add(id(member))
        for _ in range(member.yields):
            weft.yield_now()
        try:
            self.act(member)
        except Exception as error:
            self.errors.append(error)
            raise

    def act(self, member):
        match member.kind:
            case "fail":
                raise Failure(id(member))
            case "wait":
                weft.sleep(1000)
            case "wait, then fail":
                with contextlib.suppress(weft.Cancelled):
                    weft.sleep(1000)
                raise Failure(id(member))
            case "swallow":
                with contextlib.suppress(weft.Cancelled):
                    weft.sleep(1000)
                with weft.shield():
                    weft.sleep(0)
            case "cancel itself":
                weft.current().cancel()
                weft.sleep(1000)
            case "time out":
                with weft.shield(), weft.timeout(-1):
                    weft.sleep(1000)
            case "catch its timeout":
                with contextlib.suppress(weft.Timeout), weft.timeout(-1):
                    weft.sleep(1000)
            case "spawn":
                self.spawn(member.member)
            case "group":
                GroupRun(member.group, self.began).run()


@settings(FIXED, max_examples=200)
@given(groups(Members), st.sampled_from(["cancel its fiber", "cancel it"]))
def test_task_groups(node, help):
    began = set()
    program = GroupRun(node, began)

    def run():
        program.run()
        weft.sleep(0)  # its cancellation is over with the group

    owner = weft.spawn(run)
    helped = not ends_by_itself(node)
    for _ in range(20 if helped else 0):
        weft.yield_now()
    if helped:
        assert not owner.done()
        (owner if help == "cancel its fiber" else program.group).cancel()
    error = owner.exception(timeout=5)
    must, least, most = failures(node, helped, began)
    told = leaves(error) if isinstance(error, Exception) else []
    timeouts = [leaf for leaf in told if isinstance(leaf, weft.Timeout)]
    assert {leaf.args[0] for leaf in told if leaf not in timeouts} == must
    assert len(told) == len(must) + len(timeouts) and least <= len(timeouts) <= most
    cancelled = node.body in ("cancel itself", "leave") or (helped and help == "cancel its fiber")
    assert told or owner.cancelled() == cancelled
