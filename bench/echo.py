#!/usr/bin/env python3
"""How many round trips a second do threads make that echo 64 bytes over TCP?

A thread for each client and for each of the server's connections, all in one process.
"""

import socket
import sys
import threading
import time

from support.side_by_side import main

MESSAGE = bytes(64)


def serve(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=echo, args=(connection,), daemon=True).start()


def echo(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while message := connection.recv(4096):
        connection.sendall(message)


def measure(connections, seconds=3):
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    round_trips = [0] * connections
    connected = threading.Barrier(connections + 1)

    def client(number):
        connection = socket.create_connection(listener.getsockname())
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.wait()
        while True:
            connection.sendall(MESSAGE)
            connection.recv(4096)
            round_trips[number] += 1

    for number in range(connections):
        threading.Thread(target=client, args=(number,), daemon=True).start()
    connected.wait()
    before, started = sum(round_trips), time.monotonic()
    time.sleep(seconds)
    return {"round trips/s": (sum(round_trips) - before) / (time.monotonic() - started)}


if __name__ == "__main__":
    sys.exit(main(__doc__, measure, cases=[{"connections": count} for count in (1, 100, 1000)],
                  quick=[{"connections": 10, "seconds": 0.1}]))
