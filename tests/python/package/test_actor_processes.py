"""weft.actor across processes: references and channels that are pickled, or inherited by fork children."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
import threading
from multiprocessing import forkserver, resource_tracker

import pytest

import weft
import weft.actor
from weft.actor import _link, _office
from weft.actor import ActorDeadError, ChannelEnd, MailboxFull, RemoteError, ThreadingActor, Timeout, statistics

METHODS = ("fork", "spawn", "forkserver")
LIMIT = 30  # seconds, for what ends at once unless it is broken


class Inner:
    pykka_traversable = True

    def __init__(self):
        self.value = 5

    def double(self, number):
        return 2 * number


class OddError(Exception):
    """Can be pickled, and not be unpickled."""

    def __init__(self, one, two):
        super().__init__("odd")


class LockedError(Exception):
    """Cannot be pickled."""

    def __init__(self):
        super().__init__("locked")
        self.lock = threading.Lock()


def explode():
    raise OSError("exploded")


class Bomb:
    """Cannot be unpickled."""

    def __reduce__(self):
        return explode, ()


class Worker(ThreadingActor):
    def __init__(self):
        self.field = "initial"
        self.inner = Inner()
        self.seen = []

    def echo(self, *args, **kwargs):
        return args, kwargs

    def pid(self):
        return os.getpid()

    def fail(self, kind):
        raise {"ValueError": ValueError, "LockedError": LockedError, "OddError": lambda: OddError(1, 2)}[kind]()

    def answer(self, kind):
        return {"lock": threading.Lock, "bomb": Bomb}[kind]()

    def read(self, sock):
        with sock:
            return sock.recv(10)

    def is_own(self, ref):
        return ref is not None and ref == self.actor_ref and ref.actor_urn == self.actor_urn

    def ask_other(self, ref, message):
        return ref.ask(message)

    def keep(self, ref):
        return ref

    def wait(self, channel):
        return channel.receive()

    def on_receive(self, message):
        self.seen.append(message)
        return message


class FiberWorker(Worker):
    _start_actor_loop = weft.actor.Actor._start_actor_loop

    def nap(self, seconds):
        self.seen.append("begins")
        try:
            weft.sleep(seconds)
        except BaseException as error:
            self.seen.append(type(error).__name__)
            raise


class Small(Worker):
    mailbox_size = 1


class Raising(Small):
    mailbox_policy = "raise"


# --- Processes that tests start. Nobody blocks the thread that runs the fibers: the program need not be patched.


def host(connection, kind):
    """Has an actor, and does what it is told until it is told None."""
    ref = kind.start()
    connection.send((os.getpid(), ref))
    while (word := weft.to_thread(connection.recv)) is not None:
        connection.send(eval(word, globals(), {"ref": ref}))  # noqa: S307
    ref.stop(urgent=True, block=False)


def using(connection, what, function):
    """Calls a function with something, and sends what it returns."""
    connection.send(function(what))
    weft.to_thread(connection.recv)


class Process:
    def __init__(self, method, target, *args):
        context = multiprocessing.get_context(method)
        self.connection, other = context.Pipe()
        self.process = context.Process(target=target, args=(other, *args), daemon=True)
        self.process.start()
        other.close()
        self.code = None

    def receive(self):
        assert weft.wait_readable(self.connection, LIMIT), "the other process says nothing"
        return self.connection.recv()

    def end(self):
        if self.code is None:
            with contextlib.suppress(OSError):
                self.connection.send(None)
            self.connection.close()
            weft.wait_readable(self.process.sentinel, LIMIT)
            self.process.kill()
            self.process.join()
            self.code = self.process.exitcode
            self.process.close()
        return self.code


@pytest.fixture(scope="module", autouse=True)
def helpers():
    """The processes that multiprocessing keeps."""
    forkserver.ensure_running()
    resource_tracker.ensure_running()


@pytest.fixture(autouse=True)
def nothing_is_shared(nothing_is_left, until):
    threads = len(os.listdir("/proc/self/task"))
    yield
    _office.shut()
    until(lambda: len(os.listdir("/proc/self/task")) <= threads + 2)  # those for timers and for to_thread() stay a while


@pytest.fixture
def started():
    """started(method, function, *args): a process; they all end with the test."""
    processes = []

    def start(method, target, *args):
        processes.append(Process(method, target, *args))
        return processes[-1]

    yield start
    for process in processes:
        process.end()


@pytest.fixture
def remote(started):
    """remote(class, method): an actor in another process; that one's number, and the Process."""

    def start(kind=Worker, method="spawn"):
        process = started(method, host, kind)
        pid, ref = process.receive()
        return ref, pid, process

    return start


def use_all(ref):
    proxy = ref.proxy()
    found = [ref.is_alive(), type(ref).__name__, ref.actor_class.__name__, proxy.echo(1, a=2).get(), ref.ask("message")]
    proxy.field = "set"
    proxy.echo.defer("deferred")
    proxy.inner.value = 7
    return [*found, proxy.field.get(), proxy.inner.value.get(), proxy.inner.double(4).get(), hasattr(proxy, "nothing")]


USED = [True, "ActorRef", "Worker", ((1,), {"a": 2}), "message", "set", 7, 8, False]


@pytest.fixture
def worker():
    ref = Worker.start()
    yield ref
    ref.stop()


@pytest.mark.parametrize("method", METHODS)
def test_a_child_uses_an_actor_of_its_parent(started, worker, method):
    child = started(method, using, worker, use_all)
    assert child.receive() == USED
    assert child.end() == 0
    assert worker.proxy().seen.get() == ["message"]


@pytest.mark.parametrize("method", METHODS)
def test_a_parent_uses_an_actor_of_its_child(remote, method):
    ref, pid, process = remote(method=method)
    assert use_all(ref) == USED
    assert ref.proxy().pid().get() == pid
    assert ref.stop() is True and ref.stop() is False
    assert not ref.is_alive() and ref.actor_stopped.is_set()
    for use in (ref.ask, ref.tell, lambda _: ref.proxy()):
        with pytest.raises(ActorDeadError):
            use("x")
    assert process.end() == 0


def forked(function):
    """Calls a function in a child of os.fork(); what it returns comes back."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            result = function()
        except BaseException as error:
            result = repr(error)
        os.write(writer, pickle.dumps(result))
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        result = pickle.loads(file.read())
    os.waitpid(child, 0)
    return result


def test_a_plain_fork(worker):
    table = {worker: "found"}
    assert forked(lambda: (use_all(worker), table[worker], forked(lambda: worker.ask("grandchild")))) == (
        USED, "found", "grandchild")


def test_patched(started):
    with weft.patched():
        worker = FiberWorker.start()
        for method in ("fork", "spawn"):
            child = started(method, using, worker, use_all)
            assert child.receive()[3:] == USED[3:]
            assert child.end() == 0
        worker.stop()


def test_equality_and_the_way_home(remote, worker):
    ref, _, _ = remote()
    again = pickle.loads(pickle.dumps(ref))
    assert again == ref and hash(again) == hash(ref) and again is not ref and ref != worker
    assert pickle.loads(pickle.dumps(worker)) == worker
    assert ref.proxy().is_own(ref).get() is True
    assert ref.proxy().keep(worker).get() == worker
    assert ref.proxy().ask_other(worker, "through").get() == "through"
    assert str(ref) == str(again) and "Worker (urn:uuid:" in str(ref)


def test_a_third_process(remote):
    one, first, _ = remote()
    two, second, _ = remote(method="fork")
    assert two.proxy().ask_other(one, "third").get() == "third"
    sent_on = two.proxy().keep(one).get()
    assert sent_on == one and sent_on.proxy().pid().get() == first != second


def test_exceptions_come_with_their_traceback(remote):
    proxy = remote()[0].proxy()
    with pytest.raises(ValueError) as caught:
        proxy.fail("ValueError").get()
    assert "in fail" in str(caught.value.__cause__) and "_link.py" not in str(caught.value.__cause__)


@pytest.mark.parametrize("kind", ["LockedError", "OddError"])
def test_exceptions_that_cannot_be_pickled(remote, kind):
    ref, _, _ = remote()
    with pytest.raises(RemoteError, match=kind) as caught:
        ref.proxy().fail(kind).get(timeout=LIMIT)
    assert caught.value.type_name.endswith(kind) and "in fail" in caught.value.traceback_text
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert ref.ask("next") == "next"


@pytest.mark.parametrize(("kind", "text"), [("lock", "answer cannot be pickled"), ("bomb", "answer cannot be unpickled")])
def test_answers_that_cannot_be_pickled(remote, kind, text):
    ref, _, _ = remote()
    with pytest.raises(RemoteError, match=text):
        ref.proxy().answer(kind).get(timeout=LIMIT)
    assert ref.ask("next") == "next"


def test_messages_that_cannot_be_pickled(remote):
    ref, _, _ = remote()
    for send in (ref.tell, ref.ask, ref.proxy().echo, lambda message: ref.tell_after(0, message)):
        with pytest.raises(TypeError, match="lock"):
            send(threading.Lock())
    with pytest.raises(pickle.PicklingError, match="local"):
        ref.tell(lambda: None)
    with pytest.raises(TypeError, match=r"send what its get\(\) returns"):
        ref.ask(ref.ask(1, block=False))
    with pytest.raises(TypeError, match="send its actor_ref"):
        ref.ask(ref.proxy())
    with pytest.raises(RemoteError, match="message cannot be unpickled: exploded"):
        ref.ask(Bomb(), timeout=LIMIT)
    ref.tell(Bomb())
    assert ref.ask("next") == "next"
    assert statistics(ref).handled == 2


def test_descriptors(remote):
    ref, _, _ = remote()
    ref.ask("connected")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        left, right = socket.socketpair()
        with left, right:
            reading = ref.proxy().read(right)
            right.close()
            left.send(b"through")
            assert reading.get(timeout=LIMIT) == b"through"
    with socket.socket() as sock, pytest.raises(TypeError):
        ref.tell((sock, threading.Lock()))
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_death_of_the_owner(remote, until):
    ref, pid, _ = remote(FiberWorker)
    proxy = ref.proxy()
    futures = [proxy.nap(60) for _ in range(3)]
    stopped = weft.spawn(ref.actor_stopped.wait)
    until(lambda: proxy.actor_ref.actor_inbox.qsize() == 2)
    os.kill(pid, signal.SIGKILL)
    for future in futures:
        with pytest.raises(ActorDeadError, match="cannot be reached"):
            future.get(timeout=LIMIT)
    assert stopped.result(timeout=LIMIT) is True
    for use in (ref.ask, ref.tell, lambda _: ref.proxy(), proxy.echo.defer, lambda _: proxy.field.get()):
        with pytest.raises(ActorDeadError):
            use("x")
    assert not ref.is_alive() and ref.stop() is False


def idle_child():
    child = os.fork()
    if child == 0:
        signal.pause()
    return child


def test_a_fork_child_does_not_keep_its_parents_connections(remote):
    ref, pid, process = remote(FiberWorker)
    nap = ref.proxy().nap(60)
    process.connection.send("idle_child()")
    child = process.receive()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ActorDeadError):
        nap.get(timeout=LIMIT)
    os.kill(child, signal.SIGKILL)


def ask_and_wait(ref):
    ref.tell_every(0.001, "tick")
    naps = [ref.proxy().nap(0.05) for _ in range(3)]
    naps[0].get()
    return os.getpid()


def test_the_death_of_who_asked(started, until):
    ref = FiberWorker.start()
    child = started("spawn", using, ref, ask_and_wait)
    os.kill(child.receive(), signal.SIGKILL)
    assert child.end() == -signal.SIGKILL
    until(lambda: not _office.present().all_links)
    ref.ask("the naps are over", timeout=LIMIT)
    handled = statistics(ref).handled
    weft.sleep(0.02)
    assert statistics(ref).handled == handled  # its timers have ended
    assert ref.ask("next", timeout=LIMIT) == "next"
    ref.stop()


def test_cancelling(remote, until):
    ref, _, _ = remote(FiberWorker)
    proxy = ref.proxy()
    nap, waiting = proxy.nap(60), proxy.nap(60)
    until(lambda: ref.actor_inbox.qsize() == 1)
    assert waiting.cancel() and nap.cancel() and not nap.cancel()
    with pytest.raises(weft.Cancelled):
        nap.get()
    assert proxy.seen.get(timeout=LIMIT) == ["begins", "Cancelled"]


def test_deadlines_and_timeouts(remote):
    ref, _, process = remote(FiberWorker)
    proxy = ref.proxy()
    with pytest.raises(Timeout, match="deadline"):
        proxy.nap.within(0.01)(60).get()
    assert proxy.seen.get(timeout=LIMIT) == ["begins", "Timeout"]
    with pytest.raises(Timeout):
        proxy.nap(60).get(timeout=0.01)
    with pytest.raises(weft.Timeout), weft.timeout(0.01):
        ref.ask("x")
    assert not ref.actor_stopped.wait(0.01)
    process.process.kill()  # which would have its nap first


@pytest.mark.parametrize("kind", [Small, Raising])
def test_full_mailboxes(remote, kind, until):
    ref, _, _ = remote(kind)
    gate = weft.Channel()
    waiting = ref.proxy().wait(gate)
    until(ref.actor_inbox.empty)
    ref.tell("first")
    if kind is Raising:
        for send in (ref.tell, ref.ask, ref.proxy().echo):
            with pytest.raises(MailboxFull):
                send("second")
    else:
        with pytest.raises(MailboxFull):
            ref.tell("second", timeout=0.01)
        with pytest.raises(weft.Timeout), weft.timeout(0.01):
            ref.tell("third")
    asked = ref.ask("urgent", urgent=True, block=False)
    senders = [weft.spawn(ref.tell, number) for number in range(3)] if kind is Small else []
    gate.send("go")
    assert (waiting.get(), asked.get()) == ("go", "urgent")
    for sender in senders:
        sender.join(LIMIT)
    until(ref.actor_inbox.empty)
    seen = [each for each in ref.proxy().seen.get() if each != "third"]  # it may have been on its way
    assert seen[:2] == ["urgent", "first"] and sorted(seen[2:]) == [*range(len(senders))]


def test_timers(remote, until):
    ref, _, _ = remote()
    ref.tell_after(0.001, "once")
    timer = ref.tell_every(0.001, "often")
    until(lambda: ref.proxy().seen.get().count("often") > 3)
    assert ref.proxy().seen.get().count("once") == 1
    assert timer.cancel() is True and timer.cancel() is False
    after = ref.proxy().seen.get()
    weft.sleep(0.01)
    assert ref.proxy().seen.get() == after


# --- The office and its visitors.


def visit(address, behave):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(address)
        sock.settimeout(LIMIT)
        behave(sock)


def say_nothing(sock):
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(4096):
        pass


def say(sock, data):
    sock.settimeout(10)  # less than a peer that says nothing has
    with contextlib.suppress(ConnectionError):
        sock.sendall(data)
        while sock.recv(4096):
            pass


def say_garbage(sock):
    say(sock, b"\xff" * 4096)


def say_a_pickle(sock):
    data = pickle.dumps(Bomb())
    say(sock, len(data).to_bytes(4, "little") + data)


@pytest.mark.parametrize("behave", [say_nothing, say_garbage, say_a_pickle])
def test_strangers(started, worker, behave):
    pickle.dumps(worker)
    address = _office.present().address
    visit(address, behave)
    child = started("spawn", using, worker, use_all)
    assert child.receive() == USED


def test_many_who_stall(started, worker, monkeypatch):
    pickle.dumps(worker)
    monkeypatch.setattr(_office, "_STRANGERS", 4)
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(20)]
        for sock in stalled:
            sock.connect(_office.present().address)
            sock.settimeout(10)
        while stalled[0].recv(4096):  # the oldest has to go
            pass
        child = started("spawn", using, worker, use_all)
        assert child.receive() == USED


def test_who_stalls_has_to_go(worker, monkeypatch):
    pickle.dumps(worker)
    monkeypatch.setattr(_link, "HANDSHAKE", 0.02)
    visit(_office.present().address, lambda sock: [None for _ in iter(lambda: sock.recv(4096), b"")])


def test_large_messages(remote):
    data = os.urandom(5_000_000)
    ref, _, _ = remote()
    asked = [ref.ask(data, block=False) for _ in range(5)]
    assert [each.get(timeout=LIMIT) == data for each in asked] == [True] * 5


def flood(ref):
    for _ in range(100):
        ref.ask(bytes(100_000), block=False)
    return os.getpid()


def test_a_stalled_peer_stops_nobody(started, worker):
    stalled = started("spawn", using, worker, flood)
    os.kill(pid := stalled.receive(), signal.SIGSTOP)
    child = started("fork", using, worker, use_all)
    assert child.receive() == USED
    os.kill(pid, signal.SIGKILL)


def test_an_owner_that_stands_still(remote):
    ref, pid, _ = remote()
    ref.ask("connected")
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(Timeout):
        ref.ask("x", timeout=0.01)
    os.kill(pid, signal.SIGCONT)
    assert ref.ask("next", timeout=LIMIT) == "next"


def with_another_key(ref):
    multiprocessing.current_process().authkey = b"another"
    try:
        ref.ask("x")
    except ActorDeadError as error:
        return str(error)
    return "answered"


def test_another_key(started, worker):
    child = started("spawn", using, worker, with_another_key)
    assert "another authkey" in child.receive()
    assert worker.ask("next") == "next"


def test_nothing_is_loaded_before_it_is_needed(run_program):
    done = run_program("""
        import sys, weft.actor
        print([name for name in ("multiprocessing", "socket", "weft.actor._office") if name in sys.modules])
    """)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_last_words_of_a_process(started, worker):
    child = started("spawn", last_words, worker)
    assert child.end() == 0
    assert worker.proxy().seen.get() == [*range(1000)]


def last_words(connection, ref):
    for number in range(1000):
        ref.tell(number)
