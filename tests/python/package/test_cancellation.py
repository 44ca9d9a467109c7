"""Every wait, ended while it lasts and before it begins, by cancel() and by a timeout; then done again and satisfied:
nothing was lost on the way, and nobody is left waiting. Waits for locks: test_locks.py."""

import asyncio
import contextlib
import os
import select
import socket
import subprocess
import time

import pytest

import weft

FAR = 60


@pytest.fixture(autouse=True)
def cooperative(nothing_is_left):
    with weft.patched():
        yield


@contextlib.contextmanager
def fiber_that_waits():
    leave = weft.Channel(None)
    fiber = weft.spawn(leave.receive)
    yield fiber, lambda: leave.send("left")
    leave.try_send(None)
    fiber.join()


@contextlib.contextmanager
def wait_of(kind):
    """(what waits, what has the next such wait end, what that must return); None: it is not done again."""
    with contextlib.ExitStack() as stack:
        left, right = map(stack.enter_context, socket.socketpair())
        reader, writer = os.pipe()
        stack.callback(os.close, reader)
        stack.callback(os.close, writer)
        channel = weft.Channel()
        match kind:
            case "sleep":
                yield lambda: weft.sleep(FAR), None, None
            case "time.sleep":
                yield lambda: time.sleep(FAR), None, None
            case "join" | "result" | "exception":
                fiber, leave = stack.enter_context(fiber_that_waits())
                yield getattr(fiber, kind), leave, "left" if kind == "result" else None
            case "send":
                yield lambda: channel.send(1), lambda: channel.receive(), None
            case "receive":
                yield channel.receive, lambda: channel.send(2), 2
            case "iteration":
                yield lambda: next(iter(channel)), lambda: channel.send(2), 2
            case "select":
                yield (lambda: weft.select(channel, weft.sending(weft.Channel(), 0), weft.readable(left)),
                       lambda: channel.send(3), (0, 3))
            case "select of a descriptor":
                yield lambda: weft.select(channel, weft.readable(left)), lambda: right.send(b"x"), (1, None)
            case "wait_readable":
                yield lambda: weft.wait_readable(left), lambda: right.send(b"x"), True
            case "TaskGroup":
                def group():
                    with weft.TaskGroup() as group:
                        group.spawn(weft.sleep, FAR)
                yield group, None, None
            case "map":
                yield lambda: list(weft.map(weft.sleep, [FAR, FAR])), None, None
            case "run_async":
                yield lambda: weft.run_async(asyncio.sleep(FAR)), None, None
            case "recv":
                yield lambda: left.recv(9), lambda: right.send(b"x"), b"x"
            case "sendall":
                yield lambda: left.sendall(bytes(16 << 20)), None, None
            case "accept":
                listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

                def accept():
                    listener.accept()[0].close()
                yield accept, lambda: socket.create_connection(listener.getsockname()).close(), None
            case "select.select":
                yield lambda: len(select.select([left], [], [])[0]), lambda: right.send(b"x"), 1
            case "poll":
                poll = select.poll()
                poll.register(left, select.POLLIN)
                yield lambda: len(poll.poll()), lambda: right.send(b"x"), 1
            case "epoll":
                epoll = stack.enter_context(select.epoll())
                epoll.register(left, select.EPOLLIN)
                yield lambda: len(epoll.poll()), lambda: right.send(b"x"), 1
            case "os.read":
                yield lambda: os.read(reader, 9), lambda: os.write(writer, b"x"), b"x"
            case "Popen.wait":
                process = subprocess.Popen(["sleep", str(FAR)])
                stack.callback(process.wait)
                stack.callback(process.kill)
                yield process.wait, process.kill, -9


KINDS = ["sleep", "time.sleep", "join", "result", "exception", "send", "receive", "iteration", "select",
         "select of a descriptor", "wait_readable", "TaskGroup", "map", "run_async", "recv", "sendall", "accept",
         "select.select", "poll", "epoll", "os.read", "Popen.wait"]


def satisfy(wait, act, expected):
    if act is None:
        return
    fiber = weft.spawn(wait)
    for _ in range(3):
        weft.yield_now()
    act()
    assert fiber.result(FAR) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_cancelled_while_it_waits(kind):
    with wait_of(kind) as (wait, *satisfaction):
        fiber = weft.spawn(wait)
        for _ in range(3):
            weft.yield_now()
        assert not fiber.done()
        fiber.cancel()
        with pytest.raises(weft.Cancelled):
            fiber.result(FAR)
        satisfy(wait, *satisfaction)


@pytest.mark.parametrize("kind", KINDS)
def test_cancelled_before_it_waits(kind):
    with wait_of(kind) as (wait, *satisfaction):
        begin = weft.Channel()

        def run():
            with weft.shield():
                begin.receive()
            return wait()

        fiber = weft.spawn(run)
        weft.yield_now()
        fiber.cancel()
        begin.send(None)
        with pytest.raises(weft.Cancelled):
            fiber.result(FAR)
        satisfy(wait, *satisfaction)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [0.005, -1])
def test_a_scope_around_it_expires(kind, seconds):
    with wait_of(kind) as (wait, *satisfaction):
        def run():
            with weft.timeout(seconds):
                wait()

        with pytest.raises(weft.Timeout):
            weft.spawn(run).result(FAR)
        satisfy(wait, *satisfaction)
