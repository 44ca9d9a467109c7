"""weft.actor where things go wrong: at forks and ends, amid exceptions, in circles, on interrupted starts."""

import gc
import os
import sys
import threading
import types
import weakref

import pytest

import weft
import weft.actor
from weft.actor import Actor, ActorDeadError, ActorRegistry, ThreadingActor, ThreadingFuture
from weft.actor._envelope import Envelope
from weft.actor.messages import ProxyCall


class Echo(Actor):
    def on_receive(self, message):
        return message

    def call(self, *args, **kwargs):
        return args, kwargs

    def fail(self):
        raise ValueError("why")


class EchoThread(Echo, ThreadingActor):
    pass


@pytest.fixture(params=[Echo, EchoThread], ids=["fiber", "thread"])
def kind(request):
    return request.param


@pytest.fixture
def echo(kind):
    ref = kind.start()
    yield ref
    ref.stop()
    assert ActorRegistry.get_all() == []


def test_who_has_its_answer_waits_for_nobody(kind):
    """A deadlock is not seen in a wait that has ended, though who waited has not gone on yet."""

    class Asked(kind):
        def question(self):
            return "answer"

        def poke(self, other):
            return other.ask("ping")

    class Asking(kind):
        def __init__(self, asked):
            self._asked = asked.proxy()
            self.poked = None

        def go(self):
            question = self._asked.question()
            self.poked = self._asked.poke(self.actor_ref)
            return question.get()

    asked = Asked.start()
    asking = Asking.start(asked)
    proxy = asking.proxy()
    for _ in range(50):
        assert proxy.go().get() == "answer"
        assert proxy.poked.get().get() == "ping"
    asking.stop()
    asked.stop()


def test_a_wait_within_a_time_limit_is_no_deadlock():
    class Patient(Actor):
        def on_receive(self, message):
            try:
                with weft.timeout(0.01):
                    return self.actor_ref.ask("x")
            except weft.Timeout:
                return "timeout"

    ref = Patient.start()
    assert ref.ask("go") == "timeout"
    ref.stop(urgent=True)


def test_looking_for_a_name_does_not_wait_for_who_waits(kind):
    class Slow(kind):
        def __init__(self, other):
            self._other = other

        def on_start(self):
            self._other.ask("x")

    class Looking(kind):
        def on_receive(self, message):
            return message

        def look(self, go):
            slow = Slow.start(self.actor_ref)
            found = hasattr(slow.proxy(), "unknown")
            return found, slow

    looking = Looking.start()
    found, slow = looking.proxy().look(None).get(timeout=20)
    assert found is False
    slow.stop()
    looking.stop()


def test_a_sender_that_was_overtaken_is_woken_again(until):
    class Small(Echo):
        mailbox_size = 1

        def on_receive(self, message):
            if message == "first":
                gate.receive()
            if message == "x":
                self.actor_ref.tell("y")  # takes the room that the sender was woken for
                weft.sleep(0.01)

    gate = weft.Channel(0)
    ref = Small.start()
    ref.tell("first")
    until(ref.actor_inbox.empty)
    ref.tell("x")
    sender = weft.spawn(ref.tell, "z")
    weft.yield_now()
    gate.send(None)
    sender.join(timeout=20)
    ref.stop()


def test_one_that_always_finds_a_message_lets_others_run(echo):
    class Busy(Actor):
        def go(self):
            self.actor_ref.proxy().go.defer()

    busy = Busy.start()
    busy.proxy().go.defer()
    assert echo.ask("x", timeout=20) == "x"
    assert busy.stop(urgent=True)


def test_arguments_by_any_mapping(echo):
    def call(keywords):
        return echo.ask(ProxyCall(("call",), [1], keywords))

    assert call({"a": 2}) == call(types.MappingProxyType({"a": 2})) == ((1,), {"a": 2})
    for wrong in (7, None, "text"):
        with pytest.raises(TypeError, match="mapping"):
            call(wrong)


def test_an_actor_that_goes_amid_an_exception():
    def make():
        actor = Echo()
        futures.append(actor.actor_ref.ask("x", block=False))
        return actor

    futures = []
    with pytest.raises(ZeroDivisionError):
        print(make(), 1 / 0)
    gc.collect()
    with pytest.raises(ActorDeadError):
        futures[0].get(timeout=20)


@pytest.mark.parametrize("of", [ThreadingFuture, weft.actor.Future, type("Sub", (ThreadingFuture,), {})],
                         ids=["ThreadingFuture", "Future", "subclass"])
def test_futures_in_circles_are_garbage(of):
    class Payload:
        pass

    circles = []
    for way in ("value", "dictionary", "hook"):
        payload = Payload()
        future = of()
        payload.future = future
        if way == "dictionary":
            future.attribute = payload
        elif way == "hook":
            future.set_get_hook(lambda _, payload=payload: payload)
        elif of is not weft.actor.Future:
            future.set(payload)
        circles.append(weakref.ref(payload))
        del payload, future
    gc.collect()
    assert [circle() for circle in circles] == [None] * 3


def test_proxies_in_circles_are_garbage(echo):
    proxy = echo.proxy()
    proxy._itself = proxy
    gone = weakref.ref(proxy)
    del proxy
    gc.collect()
    assert gone() is None


def test_an_exception_that_was_raised_keeps_nothing(echo):
    class Local:
        pass

    def ask():
        local = Local()
        gone.append(weakref.ref(local))
        future = echo.proxy().fail()
        try:
            future.get()
        except ValueError:
            pass

    gone = []
    ask()
    gc.collect()
    assert gone[0]() is None


@pytest.mark.parametrize("base", ["Actor", "ThreadingActor"])
def test_an_exception_after_the_actor_began(run_program, base):
    done = run_program(f"""
        import weft, weft.actor
        class A(weft.actor.{base}):
            def _start_actor_loop(self, name):
                super()._start_actor_loop(name)
                self.actor_ref.proxy().actor_urn.get()
                raise KeyboardInterrupt
            def on_receive(self, message):
                return message
        try:
            A.start()
        except KeyboardInterrupt:
            print("interrupted")
        for ref in weft.actor.ActorRegistry.get_all():
            print(ref.ask("it runs"), ref.stop())
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\nit runs True\n", "")


def test_the_end_of_a_program_whose_daemons_work(run_program):
    done = run_program("""
        import logging, time, weft.actor
        logging.basicConfig(level=logging.INFO, stream=open("/dev/null", "w"))
        class A(weft.actor.ThreadingActor):
            use_daemon_thread = True
            def on_receive(self, message):
                self.actor_ref.ask(1, block=False)
                raise ValueError("x")
        for _ in range(3):
            A.start().ask(1, block=False)
        time.sleep(0.1)
        print("ends")
    """)
    assert (done.returncode, done.stdout) == (0, "ends\n"), done.stderr


@pytest.mark.parametrize("hook", ["on_stop", "on_failure"])
def test_the_program_waits_for_the_last_hook(run_program, hook):
    done = run_program(f"""
        import weft, weft.actor
        class A(weft.actor.Actor):
            def {hook}(self, *args):
                print("begins", flush=True)
                weft.sleep(0.05)
                print("ends", flush=True)
            def on_receive(self, message):
                raise ValueError
        ref = A.start()
        {'ref.stop(block=False)' if hook == 'on_stop' else 'ref.tell(1)'}
    """)
    assert (done.returncode, done.stdout) == (0, "begins\nends\n"), done.stderr


def test_a_fork_child_has_no_actors_of_its_own(echo):
    other = Echo.start()
    waiting = echo.proxy().call()
    waiting.get()
    child = os.fork()
    if child == 0:
        right = ActorRegistry.get_all() == [] and echo.ask("parent's") == "parent's" and other.stop() is True
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(weft.to_thread(os.waitpid, child, 0)[1]) == 0
    assert echo.ask("parent") == "parent" and not other.is_alive()


def test_a_fork_child_ends(run_program):
    done = run_program("""
        import multiprocessing, weft.actor
        class A(weft.actor.Actor):
            def nap(self):
                import weft
                weft.sleep(0.2)
                return "answer"
        ref = A.start()
        answer = ref.proxy().nap()
        def work():
            try:
                answer.get()
            except weft.actor.ActorDeadError as error:
                print(type(error).__name__, flush=True)
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join()
        print(process.exitcode, answer.get())
        ref.stop()
    """)
    assert (done.returncode, done.stdout) == (0, "ActorDeadError\n0 answer\n"), done.stderr


def test_many_wait_for_one_derived_future(echo):
    source = ThreadingFuture()
    doubled = source.map(lambda n: 2 * n)
    assert not doubled.done()
    fibers = [weft.spawn(doubled.get) for _ in range(5)]
    weft.yield_now()
    source.set(2)
    assert [fiber.result() for fiber in fibers] == [4] * 5
    assert doubled.done()
    stopping = echo.stop(block=False)
    fibers = [weft.spawn(stopping.get) for _ in range(3)]
    assert [fiber.result() for fiber in fibers] == [True] * 3


def test_a_hook_that_asks_for_itself():
    future = ThreadingFuture()
    future.set_get_hook(lambda _: future.get())
    with pytest.raises(RuntimeError, match="must not wait for itself"):
        future.get()


def test_the_get_of_a_subclass_is_called():
    class Mine(ThreadingFuture):
        def get(self, *, timeout=None):
            return "mine"

    first = ThreadingFuture()
    first.set(1)
    assert first.join(Mine()).get() == [1, "mine"]


def test_on_failure_is_in_the_exception(kind, until):
    seen = []

    class Failing(kind):
        def on_failure(self, *args):
            seen.append(sys.exc_info() == args)

    ref = Failing.start()
    ref.proxy().fail.defer()
    until(lambda: seen)
    assert seen == [True]


def test_tracers_come_into_actors(kind):
    class Traced(kind):
        def on_receive(self, message):
            return sys.gettrace() is not None

    threading.settrace(lambda *_: None)
    try:
        ref = Traced.start()
        assert ref.ask("?") is True
        ref.stop()
    finally:
        threading.settrace(None)


def test_actor_stopped_can_be_set(kind, until):
    ref = kind.start()
    ref.ask("x")
    ref.actor_stopped.set()
    assert not ref.is_alive()
    until(lambda: gc.collect() or ref._actor_weakref() is None)


def test_what_the_inbox_cannot_take(echo):
    class Odd:
        message = "x"

    with pytest.raises(AttributeError):
        echo.actor_inbox.put(Odd())
    with pytest.raises(TypeError, match="reply_to"):
        echo.actor_inbox.put(Envelope("x", reply_to=7))


def test_a_base_exception_stops_all_who_wait_for_it(until):
    class Fatal(Echo):
        def on_receive(self, message):
            gate.receive()
            raise SystemExit

    class Waiting(Echo):
        def on_receive(self, message):
            return fatal.ask("x")

    gate = weft.Channel(0)
    fatal, waiting, other = Fatal.start(), Waiting.start(), Echo.start()
    fatal.tell("go")
    asked = waiting.ask("x", block=False)
    until(lambda: waiting.actor_inbox.empty() and fatal.actor_inbox.qsize() == 1)
    gate.send(None)
    with pytest.raises(ActorDeadError):
        asked.get(timeout=20)
    until(lambda: ActorRegistry.get_all() == [])
    assert not other.is_alive()


def test_ctrl_c_reaches_main_while_an_actor_computes(run_program):
    done = run_program("""
        import os, signal, weft.actor
        signal.signal(signal.SIGINT, signal.default_int_handler)
        class A(weft.actor.Actor):
            use_daemon_thread = True
            def on_receive(self, message):
                os.kill(os.getpid(), signal.SIGINT)
                return message
        ref = A.start()
        try:
            for _ in range(1000):
                ref.ask("x")
        except KeyboardInterrupt:
            print("interrupted")
    """)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
