"""Channel and select()."""

import gc
import os
import random
import threading
import time
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft


def test_unbuffered():
    channel = weft.Channel()
    sent = []
    sender = weft.spawn(lambda: (channel.send(1), sent.append(True)))
    weft.yield_now()
    assert not sent and len(channel) == 0
    assert channel.receive() == 1
    sender.join()
    assert sent and channel.capacity == 0


def test_bounded_and_unbounded():
    channel = weft.Channel(2)
    assert channel.try_send("a") and channel.try_send("b") and not channel.try_send("c")
    with pytest.raises(weft.Timeout):
        channel.send("c", timeout=0.001)
    assert [channel.receive(), channel.receive()] == ["a", "b"]
    assert channel.try_receive() is None and channel.try_receive("none") == "none"
    with pytest.raises(weft.Timeout):
        channel.receive(timeout=0.001)
    endless = weft.Channel(None)
    for i in range(1000):
        endless.send(i)
    assert endless.capacity is None and len(endless) == 1000


def test_closing():
    channel = weft.Channel(3)
    channel.send(1)
    assert channel.close() and not channel.close() and channel.closed
    with pytest.raises(weft.Closed):
        channel.send(2)
    assert list(channel) == [1]
    with pytest.raises(weft.Closed):
        channel.receive()
    with pytest.raises(weft.Closed):
        channel.try_receive()
    waiting = weft.Channel()
    receiver = weft.spawn(waiting.receive)
    weft.yield_now()
    waiting.close()
    assert isinstance(receiver.exception(), weft.Closed)


def test_bad_capacity():
    with pytest.raises(ValueError, match="unbounded"):
        weft.Channel(-1)
    for capacity in ("1", 1.5):
        with pytest.raises(TypeError, match="None for unbounded"):
            weft.Channel(capacity)
    with pytest.raises(OverflowError, match="None for unbounded"):
        weft.Channel(2**70)
    with pytest.raises(MemoryError, match="None for unbounded"):
        weft.Channel(2**60)


def test_items_are_let_go():
    class Item:
        alive = 0

        def __init__(self):
            Item.alive += 1

        def __del__(self):
            Item.alive -= 1

    channel = weft.Channel(None)
    for _ in range(10):
        channel.send(Item())
    channel.receive()
    assert Item.alive == 9
    del channel
    assert Item.alive == 0


def test_a_cancelled_sender_keeps_its_item():
    channel = weft.Channel()
    sender = weft.spawn(channel.send, "lost?")
    weft.yield_now()
    sender.cancel()
    sender.join()
    assert channel.try_receive("nothing") == "nothing"


def test_select():
    a, b = weft.Channel(), weft.Channel()
    assert weft.select(a, b, wait=False) == (None, None)
    assert weft.select(a, weft.after(0.001)) == (1, None)
    sender = weft.spawn(b.send, "x")
    assert weft.select(a, b) == (1, "x")
    sender.join()
    receiver = weft.spawn(a.receive)
    weft.yield_now()
    assert weft.select(weft.sending(a, 5), b) == (0, None)
    assert receiver.result() == 5
    slow, quick = weft.spawn(weft.sleep, 1000), weft.spawn(int)
    assert weft.select(slow, quick) == (1, quick)
    slow.cancel()
    slow.join()
    b.close()
    with pytest.raises(weft.Closed):
        weft.select(a, b)


def test_cases_can_be_used_again():
    channel = weft.Channel(None)
    case = weft.sending(channel, "item")
    assert [weft.select(case) for _ in range(2)] == [(0, None)] * 2
    assert [channel.receive() for _ in range(2)] == ["item"] * 2
    tick = weft.after(0.02)
    weft.sleep(0.03)
    for _ in range(2):
        began = time.monotonic()
        assert weft.select(channel, tick) == (1, None)
        assert time.monotonic() - began >= 0.02


def test_they_tell_what_they_are():
    channel = weft.Channel(3)
    channel.send(1)
    assert repr(channel) == "<weft.Channel(3): 1 item>"
    assert repr(weft.Channel(None)) == "<weft.Channel(None): 0 items>"
    channel.close()
    assert repr(channel) == "<weft.Channel(3): 1 item, closed>"
    assert repr(weft.sending(weft.Channel(), "x")) == "<weft.Case: sending(<weft.Channel(0): 0 items>, 'x')>"
    assert repr(weft.after(1.5)) == "<weft.Case: after(1.5)>"
    assert repr(weft.readable(0)) == "<weft.Case: readable(0)>"
    assert repr(weft.writable(1)) == "<weft.Case: writable(1)>"
    loop = weft.Channel()
    case = [0]
    case[0] = weft.sending(loop, case)
    assert "..." in repr(case)


def test_select_descriptors():
    reading, writing = os.pipe()
    channel = weft.Channel()
    writer = weft.spawn(lambda: os.write(writing, b"x"))
    assert weft.select(channel, weft.readable(reading)) == (1, None)
    assert weft.select(weft.writable(writing)) == (0, None)
    assert weft.wait_readable(reading, timeout=1)
    os.read(reading, 1)
    assert not weft.wait_readable(reading, timeout=0.001)
    assert weft.wait_writable(writing)
    writer.join()
    os.close(reading)
    os.close(writing)
    with pytest.raises(OSError):
        weft.wait_readable(reading)


def test_select_misuse():
    with pytest.raises(TypeError, match="one case"):
        weft.select()
    with pytest.raises(TypeError, match="channels, fibers"):
        weft.select(3)
    with pytest.raises(TypeError, match="not weft.timeout"):
        weft.select(weft.timeout(1))
    with pytest.raises(TypeError, match="sending"):
        weft.sending(3, 4)


Operation = st.one_of(
    st.tuples(st.just("send"), st.integers()),
    st.tuples(st.just("receive"), st.none()),
    st.tuples(st.just("close"), st.none()),
)


@settings(max_examples=200, deadline=None)
@given(capacity=st.one_of(st.none(), st.integers(0, 3)), operations=st.lists(Operation, max_size=40))
def test_a_channel_that_nobody_waits_for_is_a_queue(capacity, operations):
    channel, model, closed = weft.Channel(capacity), [], False
    for what, item in operations:
        if what == "send":
            if closed:
                with pytest.raises(weft.Closed):
                    channel.try_send(item)
                continue
            fits = capacity is None or len(model) < capacity
            assert channel.try_send(item) == fits
            if fits:
                model.append(item)
        elif what == "receive":
            if model:
                assert channel.try_receive() == model.pop(0)
            elif closed:
                with pytest.raises(weft.Closed):
                    channel.try_receive()
            else:
                assert channel.try_receive("nothing") == "nothing"
        else:
            assert channel.close() == (not closed)
            closed = True
        assert len(channel) == len(model)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), capacity=st.integers(0, 3), senders=st.integers(1, 4), receivers=st.integers(1, 4))
def test_nothing_is_lost_doubled_or_reordered(seed, capacity, senders, receivers):
    channel = weft.Channel(capacity)
    chance = random.Random(seed)
    sent, received = {}, []

    def send(number, chance):
        count = 0
        for _ in range(30):
            how = chance.randrange(3)
            try:
                if how == 0:
                    channel.send((number, count))
                elif how == 1:
                    channel.send((number, count), timeout=chance.random() / 10000)
                elif weft.select(weft.sending(channel, (number, count)), weft.after(0.0001))[0] == 1:
                    continue
            except weft.Timeout:
                continue
            count += 1
        sent[number] = count

    def receive():
        mine = []
        received.append(mine)
        mine.extend(channel)

    sending = [weft.spawn(send, i, random.Random(chance.random())) for i in range(senders)]
    receiving = [weft.spawn(receive) for _ in range(receivers)]
    for fiber in sending:
        fiber.result()
    channel.close()
    for fiber in receiving:
        fiber.result()
    for mine in received:
        for number in sent:
            of = [count for sender, count in mine if sender == number]
            assert of == sorted(of)
    for number, count in sent.items():
        assert sorted(c for mine in received for s, c in mine if s == number) == list(range(count))


def test_closed_by_another_fiber_while_iterating(until):
    channel = weft.Channel()
    consumer = weft.spawn(list, channel)
    channel.send(1)
    channel.send(2)
    channel.close()
    assert consumer.result() == [1, 2]
    until(consumer.done)


class Item:
    pass


@pytest.mark.parametrize("capacity", [3, None])
def test_a_ring_through_its_items_is_collected(capacity):
    channel = weft.Channel(capacity)
    item = Item()
    item.channel = channel
    channel.send(item)
    channel.send([channel])
    seen = weakref.ref(item)
    del channel, item
    gc.collect()
    assert seen() is None


def test_the_collector_frees_no_item_that_is_received_meanwhile():
    channel, received = weft.Channel(2), []

    def receive():
        for item in channel:
            received.append(item.ring.number)

    def send():
        for i in range(1000):
            item = Item()
            item.ring, item.number = item, i
            channel.send(item)

    threads = [threading.Thread(target=each) for each in (receive, receive, send, send)]
    for thread in threads:
        thread.start()
    for thread in threads[2:]:
        while thread.is_alive():
            gc.collect()
            time.sleep(0)
    channel.close()
    for thread in threads[:2]:
        thread.join()
    assert sorted(received) == sorted([*range(1000), *range(1000)])
