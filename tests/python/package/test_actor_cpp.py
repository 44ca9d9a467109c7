"""Actors in C++ and in Python that talk to each other, in one process. Those in C++ are in a library that is built
against the installed package."""

import ctypes
import gc
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

import weft
import weft.actor
import weft.actor.messages
from weft.actor import Actor, ActorDeadError, ActorRegistry, ForeignActor, ForeignError, MailboxFull, ThreadingActor

SOURCE = Path(__file__).with_name("actors_in_cpp.cpp")
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    if COMPILER is None:
        pytest.skip("no C++ compiler")
    built = tmp_path_factory.mktemp("cpp") / "libactors.so"
    subprocess.run(
        [COMPILER, "-std=c++20", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror",
         f"-I{weft.get_include()}", str(SOURCE), "-o", str(built), weft.get_library()],
        check=True, timeout=300,
    )
    return ctypes.CDLL(str(built))


@pytest.fixture(params=[False, True], ids=["on a fiber", "on a thread"])
def start(library, request):
    """start(kind, name=""): an ActorRef of an actor in C++."""
    started = []

    def start(kind, name="", capacity=0):
        weft.start()
        urn = ctypes.create_string_buffer(46)
        assert library.start_actor(kind.encode(), name.encode(), request.param, capacity, urn) == 0
        ref = weft.actor.find(urn.value.decode())
        started.append(ref)
        return ref

    yield start
    for ref in started:
        ref.stop()
    started.clear()


class Answerer(Actor):
    def __init__(self):
        self.got = []

    def on_receive(self, message):
        self.got.append(message)
        return message

    def same(self, argument):
        return argument

    def nap(self, seconds):
        weft.sleep(seconds)

    def fail(self, what):
        if what == "timeout":
            raise weft.Timeout("late")
        if what == "dead":
            raise ActorDeadError("gone")
        if what == "cancelled":
            raise weft.Cancelled
        raise {"value": ValueError, "interrupt": KeyboardInterrupt}[what]("why")

    def odd(self, _):
        return object()

    def ask_back(self, ref):
        return ref.ask("back")


class AnswererOnThread(Answerer, ThreadingActor):
    pass


@pytest.fixture(params=[Answerer, AnswererOnThread], ids=["Python on a fiber", "Python on a thread"])
def answerer(request):
    ref = request.param.start()
    yield ref
    ref.stop()


VALUES = [
    None, True, False, 0, -(2**63), 2**63 - 1, 0.5, "", "text", "\N{SNOWMAN}\0x", "\udcff", b"", b"\0\xff", [], [1, [2]],
    {}, {"a": 1, "b": [None, {"c": b""}]},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_as_they_were(start, value):
    echo = start("Echo")
    answer = echo.ask(value)
    assert answer == value and type(answer) is type(value)


def test_what_is_like_a_value_is_one(start):
    class Number(int):
        pass

    class Index:
        def __index__(self):
            return 7

    echo = start("Echo")
    assert echo.ask((1, 2)) == [1, 2]
    assert echo.ask(bytearray(b"x")) == b"x"
    assert echo.ask([Number(3), Index()]) == [3, 7]
    assert echo.ask(echo) == echo


@pytest.mark.parametrize(
    "value, error, text",
    [
        (object(), TypeError, "not object"),
        ({1: 2}, TypeError, "must be str, not int"),
        ([{"a": {1, 2}}], TypeError, "not set"),
        (2**63, OverflowError, "64 bits"),
        ([-(2**63) - 1], OverflowError, "64 bits"),
        ("\ud800", UnicodeEncodeError, "surrogates"),
    ],
    ids=repr,
)
def test_what_is_no_value_is_refused_where_it_is_sent(start, value, error, text):
    echo = start("Echo")
    with pytest.raises(error, match=text):
        echo.tell(value)
    with pytest.raises(error, match=text):
        echo.ask(value)
    assert weft.actor.statistics(echo).handled == 0


def test_a_list_in_itself_is_refused(start):
    endless = []
    endless.append(endless)
    with pytest.raises(RecursionError):
        start("Echo").ask(endless)


def test_methods_are_called_by_proxy(start, until):
    ref = start("Counter", "counter")
    proxy = ref.proxy()
    assert proxy.add(3).get() == 3
    proxy.add.defer(4)
    assert proxy.sum().get() == 7
    assert proxy.me().get() == ref
    assert {"add", "sum", "fail"} <= set(dir(proxy))
    with pytest.raises(AttributeError):
        proxy.nothing
    with pytest.raises(TypeError, match="keyword"):
        proxy.add(n=1)
    with pytest.raises(AttributeError, match="no attributes"):
        proxy.count = 1
    assert proxy == ref.proxy() and hash(proxy) == hash(ref.proxy())
    until(lambda: weft.actor.statistics(ref).handled == 4)  # an answer comes before it is counted


def test_a_reference_is_like_any_other(start):
    ref = start("Counter", "counter")
    other = weft.actor.find("counter")
    assert other == ref and hash(other) == hash(ref) and {ref: 1}[other] == 1
    assert ActorRegistry.get_by_urn(ref.actor_urn) == ref
    assert ActorRegistry.get_by_urn("counter") is None
    assert ref != start("Counter")
    assert ref.actor_class is ForeignActor
    assert str(ref) == f"counter ({ref.actor_urn})"
    assert ref.is_alive() and not ref.actor_stopped.is_set()
    assert weft.actor.find("no such name") is None
    assert ref.stop() is True
    assert ref.stop() is False
    assert not ref.is_alive() and ref.actor_stopped.wait(10)
    assert weft.actor.find("counter") is None


def test_the_registry_is_pythons(start, answerer):
    """So stop_all() and broadcast() leave alone what others have started."""
    ref = start("Counter")
    assert ActorRegistry.get_all() == [answerer]
    ActorRegistry.broadcast("message")
    ActorRegistry.stop_all()
    assert ref.proxy().add(1).get() == 1


def test_errors_are_known_by_name(start):
    proxy = start("Counter").proxy()
    with pytest.raises(ForeignError, match="^std::out_of_range: why$") as caught:
        proxy.fail("why").get()
    assert (caught.value.type, caught.value.text) == ("std::out_of_range", "why")
    assert isinstance(caught.value, RuntimeError)
    with pytest.raises(ForeignError, match="add.. takes 1 argument, and 2 were given"):
        proxy.add(1, 2).get()
    with pytest.raises(ForeignError, match="argument 1 of add..: an integer is wanted, and this is a text"):
        proxy.add("1").get()
    with pytest.raises(ForeignError, match="argument 1 of add.*2147483647"):
        proxy.add(2**31).get()
    with pytest.raises(ForeignError, match="takes no values"):
        proxy.actor_ref.ask("what it does not know")
    assert proxy.add(1).get() == 1


def test_one_that_fails_at_what_it_is_told_stops(start):
    proxy = start("Counter").proxy()
    proxy.fail.defer("why")
    assert proxy.actor_ref.actor_stopped.wait(20)
    with pytest.raises(ActorDeadError):
        proxy.add(1).get()
    with pytest.raises(ActorDeadError):
        proxy.add.defer(1)
    with pytest.raises(ActorDeadError):
        proxy.actor_ref.proxy()


def test_what_it_does_not_come_to_is_answered(start):
    ref = start("Counter")
    ref.proxy().sleep.defer(0.1)
    left = ref.proxy().add(1)
    assert ref.stop(urgent=True) is True
    with pytest.raises(ActorDeadError, match="stopped before handling"):
        left.get()


def test_deadlines(start):
    proxy = start("Counter").proxy()
    with pytest.raises(weft.actor.Timeout):
        proxy.sleep(0.2).get(timeout=0.01)
    with pytest.raises(weft.actor.Timeout):
        proxy.sum.within(0.01)().get()
    assert proxy.sum().get() == 0


def test_a_deadline_ends_waits_of_the_handler(library):
    urn = ctypes.create_string_buffer(46)
    assert library.start_actor(b"Counter", b"", 0, 0, urn) == 0
    proxy = weft.actor.find(urn.value.decode()).proxy()
    with pytest.raises(weft.actor.Timeout):
        proxy.sleep.within(0.01)(3600.0).get()
    assert proxy.sum().get() == 0
    proxy.actor_ref.stop()


def test_full_mailboxes(start):
    ref = start("Counter", capacity=1)
    ref.proxy().sleep.defer(0.2)
    with pytest.raises(MailboxFull):
        for _ in range(3):
            ref.proxy().add(1)
    ref.stop(urgent=True)


def test_pools(start):
    ref = start("Pool")
    proxy = ref.proxy()
    for _ in range(4):
        proxy.add(1).get()
    assert [proxy.sum().get(), proxy.sum().get()] == [2, 2]


def test_timers(start, until):
    ref = start("Counter")
    proxy = ref.proxy()
    with pytest.raises(TypeError):
        ref.tell_after(0.01, object())
    ref.tell_after(0.01, weft.actor.messages.ProxyCall(("add",), (5,), {}))
    timer = ref.tell_every(0.01, weft.actor.messages.ProxyCall(("add",), (1,), {}))
    until(lambda: proxy.sum().get() > 7)
    assert timer.cancel()


def test_dead_letters(start, until):
    letters = []
    ref = start("Counter", capacity=100)
    weft.actor.set_dead_letter_handler(letters.append)
    try:
        ref.proxy().sleep.defer(0.05)
        ref.proxy().add.defer(1)
        ref.stop(urgent=True)
        # What is left is refused after who asked it to stop was answered.
        until(lambda: letters and letters[-1].message.attr_path == ("add",))
    finally:
        weft.actor.set_dead_letter_handler(None)
    assert letters[-1].message == weft.actor.messages.ProxyCall(("add",), (1,), {})
    assert {letter.actor_ref for letter in letters} == {ref}
    assert {letter.reason for letter in letters} == {"stopped"}


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_cpp_asks_python(start, answerer, value):
    asker = start("Asker").proxy()
    for answer in asker.ask(answerer, value), asker.forward(answerer, value), asker.call(answerer, "same", value):
        assert answer.get() == value
    assert answerer.proxy().got.get() == [value, value]


def test_cpp_tells_and_stops_python(start, answerer):
    asker = start("Asker").proxy()
    asker.tell(answerer, {"a": [1]}).get()
    assert answerer.proxy().got.get() == [{"a": [1]}]
    assert asker.describe(answerer).get() == [answerer.actor_class.__name__, answerer.actor_urn]
    assert asker.find(answerer.actor_class.__name__).get() == answerer
    assert asker.find(answerer.actor_urn).get() == answerer
    assert asker.find("nobody").get() is None
    assert asker.stop_other(answerer).get() is True
    assert not answerer.is_alive()
    assert asker.stop_other(answerer).get() is False
    assert asker.error(answerer, "same", 1).get() == "ActorDead"
    with pytest.raises(ActorDeadError):
        asker.ask(answerer, 1).get()


def test_cpp_learns_what_python_raised(start, answerer):
    asker = start("Asker").proxy()

    def error(method, argument):
        return asker.error(answerer, method, argument).get()

    assert error("fail", "value") == "ForeignError ValueError why"
    assert error("fail", "timeout") == "Timeout"
    assert error("fail", "dead") == "ActorDead"
    assert error("fail", "cancelled") == "Cancelled"
    assert error("nothing", 1).startswith("ForeignError AttributeError")
    assert error("odd", 1).startswith("ForeignError TypeError actors of other languages understand")
    with pytest.raises(ForeignError, match="^ValueError: why$"):
        asker.call(answerer, "fail", "value").get()
    assert answerer.is_alive()


def test_a_python_actor_fails_at_what_cpp_tells_it(start):
    class Failing(Actor):
        def on_receive(self, message):
            raise ValueError(message)

    failing = Failing.start()
    start("Asker").proxy().tell(failing, "why").get()
    assert failing.actor_stopped.wait(20)


def test_what_is_no_exception_stops_all_python_actors(start, answerer):
    other = Answerer.start()
    counter = start("Counter")
    assert start("Asker").proxy().error(answerer, "fail", "interrupt").get() == "ForeignError KeyboardInterrupt why"
    assert other.actor_stopped.wait(20) and answerer.actor_stopped.wait(20)
    assert counter.is_alive()


def test_deadlines_of_cpp_in_python(start, answerer):
    asker = start("Asker").proxy()
    if answerer.actor_class is Answerer:  # on a thread it goes on
        with pytest.raises(weft.actor.Timeout):
            asker.call_within(answerer, 0.01, "nap", 3600).get()
    answerer.proxy().nap.defer(0.05)
    with pytest.raises(weft.actor.Timeout):
        asker.call_within(answerer, 0.001, "same", 1).get()
    assert asker.call_within(answerer, 60.0, "same", 1).get() == 1


def test_frozen_messages(start):
    class Frozen(Answerer):
        message_isolation = "freeze"

        def kind(self, message):
            return type(message).__name__

    frozen = Frozen.start()
    assert start("Asker").proxy().call(frozen, "kind", [1]).get() == "tuple"
    frozen.stop()


def test_one_waits_for_the_other_in_turn(start, answerer):
    """Python asks C++, whose fiber or thread waits for Python, which waits for C++."""
    echo = start("Echo")
    assert start("Asker").proxy().call(answerer, "ask_back", echo).get() == "back"


def test_messages_by_the_thousand(start, answerer):
    counter = start("Counter").proxy()
    futures = [counter.add(1) for _ in range(5000)]
    assert [future.get() for future in futures] == list(range(1, 5001))
    assert start("Asker").proxy().many(answerer, "same", 5000).get() == sum(range(5000))


def test_from_os_threads(start, library, answerer):
    """Python's threads ask C++, and C++ on Python's threads asks Python, all at once."""
    counter, results = start("Counter").proxy(), []

    def ask_cpp():
        for _ in range(200):
            counter.add(1).get()
        results.append("asked")

    def ask_python():
        results.append(library.ask_often(answerer.actor_urn.encode(), b"same", 200))

    threads = [threading.Thread(target=target) for target in [ask_cpp, ask_python] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # the fibers' thread is this one
            weft.sleep(0.001)
        thread.join()
    assert sorted(results, key=str) == [200, 200, 200, "asked", "asked", "asked"]
    assert counter.sum().get() == 600


def test_from_fibers(start, answerer):
    counter, asker = start("Counter").proxy(), start("Asker").proxy()

    def work(i):
        counter.add(1).get()
        return asker.call(answerer, "same", i).get()

    fibers = [weft.spawn(work, i) for i in range(200)]
    assert [fiber.result() for fiber in fibers] == list(range(200))
    assert counter.sum().get() == 200


def test_in_patched_threads(start, answerer):
    counter, asker = start("Counter").proxy(), start("Asker").proxy()
    done = []
    with weft.patched():
        threads = [
            threading.Thread(target=lambda: done.append(counter.add(1).get() and asker.ask(answerer, 1).get()))
            for _ in range(50)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert done == [1] * 50


def test_nothing_is_left(start):
    class Held(Actor):
        def on_receive(self, message):
            return message

    asker = start("Asker").proxy()
    before = len(gc.get_objects())
    for _ in range(200):
        held = Held.start()
        asker.ask(held, ["x", held]).get()
        held.stop()
    del held
    gc.collect()
    assert len(gc.get_objects()) < before + 400


def test_at_a_fork(start):
    """In the child its actors are gone, and the answers that were open."""
    counter = start("Counter").proxy()
    slow, stopping = counter.sleep(0.2), counter.actor_ref.stop(block=False)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for future in slow, counter.add(1):
                try:
                    future.get(timeout=10)
                except ActorDeadError:
                    continue
                os._exit(2)
            status = 0 if stopping.get(timeout=10) is False and not counter.actor_ref.is_alive() else 3
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    slow.get()
    assert stopping.get() is True


def test_the_end_of_the_program(library, run_program):
    """With C++ actors that live, and one that is answering."""
    done = run_program(f"""
        import ctypes, weft, weft.actor
        weft.start()
        library = ctypes.CDLL({library._name!r})
        urns = []
        for on_thread in 0, 1:
            urn = ctypes.create_string_buffer(46)
            assert library.start_actor(b"Counter", b"", on_thread, 0, urn) == 0
            proxy = weft.actor.find(urn.value.decode()).proxy()
            assert proxy.add(1).get() == 1
            late = [proxy.sleep(0.02) for _ in range(5)]
        print("end")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
