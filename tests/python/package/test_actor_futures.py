"""weft.actor: answers that are given up, or come too late."""

import pytest

import weft
import weft.actor
import weft.actor.messages
from weft.actor import Actor, ActorRegistry, ThreadingActor, ThreadingFuture, Timeout, statistics


class Worker(Actor):
    def __init__(self):
        self.log = []

    def nap(self, seconds):
        self.log.append("begins")
        try:
            weft.sleep(seconds)
        except BaseException as error:
            self.log.append(type(error).__name__)
            raise
        self.log.append("ends")
        return seconds

    def swallow(self, seconds):
        try:
            weft.sleep(seconds)
        except weft.Cancelled:
            weft.sleep(0.001)
            return "swallowed"

    def on_receive(self, message):
        return message


class WorkerThread(Worker, ThreadingActor):
    pass


@pytest.fixture
def worker():
    ref = Worker.start()
    yield ref
    ref.stop()
    assert ActorRegistry.get_all() == []


def test_a_cancelled_answer_ends_the_work(worker, until):
    proxy = worker.proxy()
    nap = proxy.nap(30)
    until(worker.actor_inbox.empty)
    assert nap.cancel() and nap.cancelled() and nap.done()
    assert not nap.cancel()
    with pytest.raises(weft.Cancelled):
        nap.get()
    assert proxy.log.get() == ["begins", "Cancelled"]
    assert proxy.nap(0.001).get() == 0.001  # only that one
    assert worker.is_alive()


def test_a_cancelled_message_is_not_begun(worker):
    proxy = worker.proxy()
    first, second = proxy.nap(0.02), proxy.nap(30)
    assert second.cancel()
    assert first.get() == 0.02
    assert proxy.log.get() == ["begins", "ends"]


def test_a_handler_may_clean_up(worker, until):
    proxy = worker.proxy()
    napping = proxy.swallow(30)
    until(worker.actor_inbox.empty)
    assert napping.cancel()
    assert worker.ask("next") == "next"
    assert worker.is_alive()


def test_cancelling_what_is_done_does_nothing(worker):
    answer = worker.ask(1, block=False)
    assert answer.get() == 1
    assert not answer.cancel() and not answer.cancelled()
    assert answer.get() == 1


def test_what_is_made_of_it_is_cancelled_with_it(worker, until):
    proxy = worker.proxy()
    nap = proxy.nap(30)
    until(worker.actor_inbox.empty)
    both = nap.map(str).join(proxy.nap(0))
    assert both.cancel()
    with pytest.raises(weft.Cancelled):
        both.get()
    assert proxy.log.get() == ["begins", "Cancelled"]


def test_a_future_of_nobody_can_be_cancelled():
    future = ThreadingFuture()
    waiter = weft.spawn(future.get)
    weft.yield_now()
    assert future.cancel()
    assert isinstance(waiter.exception(), weft.Cancelled)


def test_on_an_os_thread_the_work_goes_on():
    ref = WorkerThread.start()
    proxy = ref.proxy()
    nap = proxy.nap(0.02)
    waiting = proxy.nap(30)
    assert waiting.cancel() and nap.cancel()
    with pytest.raises(weft.Cancelled):
        nap.get()
    log = proxy.log.get()
    assert log in ([], ["begins", "ends"])  # it may not have begun
    ref.stop()


def test_a_deadline_ends_the_work(worker):
    with pytest.raises(Timeout, match="deadline"):
        worker.ask(weft.actor.messages.ProxyCall(("nap",), (30,), {}), within=0.01)
    proxy = worker.proxy()
    assert proxy.log.get() == ["begins", "Timeout"]
    assert proxy.nap(0.02).get() == 0.02  # it was that message's only


def test_a_deadline_of_a_method(worker):
    proxy = worker.proxy()
    brief = proxy.nap.within(0.01)
    with pytest.raises(Timeout, match="deadline"):
        brief(30).get()
    assert brief(0).get() == 0
    assert proxy.log.get() == ["begins", "Timeout", "begins", "ends"]
    with pytest.raises(ValueError, match="NaN"):
        proxy.nap.within(float("nan"))
    with pytest.raises(TypeError, match="must be a number"):
        worker.ask(1, within="soon")


def test_what_is_past_its_deadline_is_not_begun(worker, until):
    proxy = worker.proxy()
    first = proxy.nap(0.05)
    until(worker.actor_inbox.empty)
    past = proxy.nap.within(0.001)(0)
    with pytest.raises(Timeout):
        past.get()
    assert first.get() == 0.05
    assert proxy.log.get() == ["begins", "ends"]
    assert statistics(worker).refused == 1
