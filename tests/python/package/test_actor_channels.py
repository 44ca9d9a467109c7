"""Ends of channels in other processes."""

import contextlib
import gc
import multiprocessing
import os
import pickle
import signal
import threading

import pytest

import weft
import weft.actor
from weft.actor import ActorDeadError, ChannelEnd, _office

LIMIT = 30


def serve(connection, end):
    """Does with the end of a channel what it is told, until it is told None."""
    while (word := weft.to_thread(connection.recv)) is not None:
        try:
            connection.send(eval(word, globals(), {"end": end}))  # noqa: S307
        except BaseException as error:
            connection.send(error)
    connection.close()


def has_channel(connection, capacity):
    channel = weft.Channel(capacity)
    connection.send((os.getpid(), channel))
    serve(connection, channel)


class Process:
    def __init__(self, method, target, *args):
        context = multiprocessing.get_context(method)
        self.connection, other = context.Pipe()
        self.process = context.Process(target=target, args=(other, *args), daemon=True)
        self.process.start()
        other.close()

    def begin(self, word):
        self.connection.send(word)

    def result(self):
        assert weft.wait_readable(self.connection, LIMIT), "the other process says nothing"
        result = self.connection.recv()
        if isinstance(result, BaseException):
            raise result
        return result

    def do(self, word):
        self.begin(word)
        return self.result()

    def end(self):
        with contextlib.suppress(OSError):
            self.connection.send(None)
        weft.wait_readable(self.process.sentinel, LIMIT)
        self.connection.close()
        self.process.kill()
        self.process.join()
        self.process.close()


@pytest.fixture(scope="module", autouse=True)
def helpers():
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()


@pytest.fixture(autouse=True)
def nothing_is_shared(nothing_is_left, until):
    threads = len(os.listdir("/proc/self/task"))
    yield
    _office.shut()
    until(lambda: len(os.listdir("/proc/self/task")) <= threads + 2)


@pytest.fixture
def process():
    """process(method, target, *args): one that ends with the test."""
    processes = []

    def start(method, target, *args):
        processes.append(Process(method, target, *args))
        return processes[-1]

    yield start
    for each in processes:
        each.end()


@pytest.fixture(params=["fork", "spawn"])
def ends(request, process):
    """ends(capacity): a channel here, and a process with an end of it."""

    def make(capacity):
        channel = weft.Channel(capacity)
        given = ChannelEnd(channel) if request.param == "fork" else channel
        return channel, process(request.param, serve, given)

    return make


def test_items_come_through(ends):
    channel, other = ends(2)
    channel.send("one")
    assert other.do("(end.capacity, end.closed, len(end), type(end).__name__)") == (2, False, 1, "ChannelEnd")
    assert other.do("end.receive()") == "one"
    assert other.do("(end.try_send(1), end.try_send(2), end.try_send(3))") == (True, True, False)
    assert [channel.receive(), channel.receive()] == [1, 2]
    assert other.do("(end.try_receive(), end.try_receive('none'))") == (None, "none")
    assert other.do("end.send(end)") is None
    assert channel.receive() is channel


def test_waits(ends):
    channel, other = ends(0)
    other.begin("end.receive()")
    channel.send("item", timeout=LIMIT)
    assert other.result() == "item"
    other.begin("end.send('back')")
    assert channel.receive(timeout=LIMIT) == "back"
    assert other.result() is None
    for word in ("end.receive(0.01)", "end.send(1, 0.01)"):
        with pytest.raises(weft.Timeout):
            other.do(word)
    assert channel.try_receive("nothing") == "nothing"
    other.begin("list(end)")
    channel.send(1, timeout=LIMIT)
    channel.send(2, timeout=LIMIT)
    channel.close()
    assert other.result() == [1, 2]
    assert other.do("end.closed") is True and other.do("end.close()") is False
    for word in ("end.receive()", "end.send(1)", "end.try_receive()"):
        with pytest.raises(weft.Closed):
            other.do(word)


def test_what_cannot_be_pickled_is_not_sent(process):
    _, end = process("spawn", has_channel, None).result()
    with pytest.raises(TypeError, match="lock"):
        end.send(threading.Lock())
    assert len(end) == 0


def test_no_item_is_lost_to_who_gives_up(process):
    owner = process("spawn", has_channel, None)
    _, end = owner.result()
    got = []
    for number in range(50):
        owner.begin(f"end.send({number})")
        with contextlib.suppress(weft.Timeout), weft.timeout(0.0005 * (number % 3)):
            got.append(end.receive())
        owner.result()
    while len(got) < 50:
        got.append(end.receive(timeout=LIMIT))
    assert sorted(got) == [*range(50)]


def test_a_kept_item_is_for_who_waits(process):
    owner = process("spawn", has_channel, None)
    _, end = owner.result()
    waiting = weft.spawn(end.receive)
    weft.yield_now()
    end._keep("kept")  # as if it had come for another that had given up
    assert waiting.result(LIMIT) == "kept"
    owner.do("end.send('next')")
    assert end.receive(timeout=LIMIT) == "next"


def test_cancelling(process):
    owner = process("spawn", has_channel, 0)
    _, end = owner.result()
    receiver = weft.spawn(end.receive)
    weft.yield_now()
    receiver.cancel()
    assert isinstance(receiver.exception(), weft.Cancelled)
    sender = weft.spawn(end.send, "x")
    weft.yield_now()
    sender.cancel()
    assert isinstance(sender.exception(), weft.Cancelled)
    assert len(end) == 0


def test_the_death_of_the_owner(process):
    pid, end = process("spawn", has_channel, 0).result()
    waiting = [weft.spawn(end.receive), weft.spawn(end.receive, 60), weft.spawn(list, end)]
    assert len(end) == 0
    os.kill(pid, signal.SIGKILL)
    for fiber in waiting:
        assert isinstance(fiber.exception(LIMIT), ActorDeadError)
    for use in (end.receive, end.try_receive, lambda: end.send(1), end.close, lambda: end.closed, lambda: len(end)):
        with pytest.raises(ActorDeadError):
            use()


def test_the_death_of_who_waits(process, until):
    channel = weft.Channel()
    other = process("spawn", serve, channel)
    pid = other.do("__import__('os').getpid()")
    other.begin("end.receive()")
    until(lambda: any(link.waits for link in _office.present().all_links))
    os.kill(pid, signal.SIGKILL)
    until(lambda: not _office.present().all_links)
    assert channel.try_send("x") is False  # it waits no more


class Answering(weft.actor.ThreadingActor):
    def count(self, channel, limit):
        for number in range(limit):
            channel.send(number)
        channel.close()


def host(connection):
    ref = Answering.start()
    connection.send(ref)
    weft.to_thread(connection.recv)
    ref.stop()


def test_a_channel_is_let_go(process, until):
    ref = process("spawn", host).result()
    proxy = ref.proxy()
    for _ in range(5):
        channel = weft.Channel()
        counting = proxy.count(channel, 3)
        assert list(channel) == [0, 1, 2]
        counting.get()
    del channel
    exports = _office.present().exports
    until(lambda: gc.collect() >= 0 and len(exports._channels) == 0)
    assert exports._unclaimed == {}


def test_the_way_home():
    channel = weft.Channel(1)
    assert pickle.loads(pickle.dumps(channel)) is channel
    assert pickle.loads(pickle.dumps(ChannelEnd(channel))) is channel
    data = pickle.dumps(channel)
    pickle.loads(data)
    del channel
    gc.collect()
    assert pickle.loads(data).closed
    with pytest.raises(TypeError, match="takes a weft.Channel"):
        ChannelEnd(7)
