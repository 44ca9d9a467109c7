#!/usr/bin/env python3
"""A closed-loop HTTP load generator: N keep-alive clients, each sending its next request when the last is answered.

One thread, one epoll set, and no parsing beyond the length, so that it stays well ahead of the server under test.
Prints JSON lines: {"second": ..., "rate": ..., "clients": ...} twice a second, and the result at the end.
"""

import argparse
import errno
import json
import resource
import select
import socket
import sys
import time

TICK_SECONDS = 0.5
_BUSY = (errno.EINPROGRESS, errno.EALREADY)


class Client:
    __slots__ = ("number", "socket", "connected", "sent_at", "buffer", "served")

    def __init__(self, number):
        self.number, self.served, self.socket = number, 0, None


class Load:
    def __init__(self, options):
        self.address = ("127.0.0.1", options.port)
        self.timeout = options.timeout
        self.request = (f"GET {options.path} HTTP/1.1\r\nHost: localhost\r\n\r\n").encode()
        self.epoll = select.epoll()
        self.clients = [Client(number) for number in range(options.clients)]
        self.by_fd = {}
        self.latencies, self.done = [], 0
        self.errors = {"resets": 0, "timeouts": 0, "refused": 0, "bad answers": 0}
        self.retry = []
        # Clients come one after another for this long: all in one instant would measure the listen queue.
        self.arrivals, self.ramp, self.started = iter(self.clients), options.ramp, time.monotonic()
        self.arrived = 0

    def admit(self, now):
        due = len(self.clients) if self.ramp <= 0 else int(len(self.clients) * (now - self.started) / self.ramp)
        while self.arrived < min(due, len(self.clients)):
            self.connect(next(self.arrivals), now)
            self.arrived += 1

    def connect(self, client, now):
        client.socket = sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.connected, client.buffer, client.sent_at = False, b"", now
        code = sock.connect_ex(self.address)
        if code not in (0, *_BUSY):
            sock.close()
            self.errors["refused"] += 1
            self.retry.append(client)
            return
        self.by_fd[sock.fileno()] = client
        self.epoll.register(sock.fileno(), select.EPOLLOUT)

    def drop(self, client, kind):
        self.errors[kind] += 1
        fd = client.socket.fileno()
        self.epoll.unregister(fd)
        del self.by_fd[fd]
        client.socket.close()
        self.retry.append(client)

    def send(self, client, now):
        client.sent_at = now
        client.socket.send(self.request)  # small: it fits an idle connection's buffer whole

    def on_event(self, client, now):
        try:
            if not client.connected:
                code = client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, "connect")
                client.connected = True
                self.epoll.modify(client.socket.fileno(), select.EPOLLIN)
                self.send(client, now)
                return
            data = client.socket.recv(4096)
            if not data:
                self.drop(client, "resets")
                return
            client.buffer += data
            if self.answered(client):
                self.latencies.append(now - client.sent_at)
                self.done += 1
                client.served += 1
                client.buffer = b""
                self.send(client, now)
        except BlockingIOError:
            pass
        except OSError as error:
            self.drop(client, "refused" if error.errno == errno.ECONNREFUSED else "resets")

    def answered(self, client):
        head, found, body = client.buffer.partition(b"\r\n\r\n")
        if not found:
            return False
        _, _, rest = head.partition(b"Content-Length: ")
        if not head.startswith(b"HTTP/1.1 200") or not rest:
            self.errors["bad answers"] += 1
            return True
        return len(body) >= int(rest.partition(b"\r")[0])

    def run_for(self, seconds, on_tick, until=lambda: False):
        """Keeps all clients busy for `seconds`, or until `until()`, asked at each tick."""
        now = time.monotonic()
        end, next_tick, last_done, last_tick = now + seconds, now + TICK_SECONDS, self.done, now
        while now < end:
            self.admit(now)
            for fd, _ in self.epoll.poll(TICK_SECONDS / 50):
                client = self.by_fd.get(fd)
                if client is not None:
                    self.on_event(client, time.monotonic())
            now = time.monotonic()
            if now >= next_tick:
                on_tick((self.done - last_done) / (now - last_tick))
                last_done, last_tick, next_tick = self.done, now, now + TICK_SECONDS
                for client in [client for client in self.by_fd.values() if now - client.sent_at > self.timeout]:
                    self.drop(client, "timeouts")
                again, self.retry = self.retry, []
                for client in again:
                    self.connect(client, now)
                if until():
                    return

    def forget_measurements(self):
        self.latencies, self.done = [], 0
        self.errors = dict.fromkeys(self.errors, 0)
        for client in self.clients:
            client.served = 0


def percentile(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


def main():
    parser = argparse.ArgumentParser(description="Load an HTTP server with keep-alive clients in a closed loop.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/greeting?id=1")
    parser.add_argument("--clients", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=10, help="measured time (default: 10)")
    parser.add_argument("--warmup", type=float, default=8, help="at most so long until all are connected (default: 8)")
    parser.add_argument("--ramp", type=float, default=3, help="the clients arrive over so long (default: 3)")
    parser.add_argument("--timeout", type=float, default=10, help="of one request (default: 10)")
    options = parser.parse_args()
    needed = options.clients + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        if hard < needed:
            sys.exit(f"loadgen: {options.clients} clients need {needed} descriptors, the limit is {hard} (ulimit -Hn)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))

    load = Load(options)
    started = time.monotonic()

    def tick(rate):
        served = sum(client.served > 0 for client in load.clients)
        print(json.dumps({"second": round(time.monotonic() - started, 2), "rate": rate, "clients": served}), flush=True)

    load.run_for(options.warmup, tick, until=lambda: all(client.served for client in load.clients))
    warmup_errors = load.errors
    load.forget_measurements()
    begin = time.monotonic()
    load.run_for(options.seconds, tick)
    seconds = time.monotonic() - begin
    ordered = sorted(load.latencies)
    print(json.dumps({
        "requests": load.done, "seconds": seconds, "rate": load.done / seconds, "p50": percentile(ordered, 0.5),
        "p99": percentile(ordered, 0.99), "max": ordered[-1] if ordered else None, "errors": load.errors,
        "warmup_seconds": begin - started, "warmup_errors": warmup_errors, "clients": options.clients,
        "clients_served": sum(client.served > 0 for client in load.clients)}), flush=True)


if __name__ == "__main__":
    main()
