#!/usr/bin/env python3
"""A chat by lines of text over TCP: the first line of a client is its name, what follows goes to everybody.
Shows fibers in a TaskGroup, which Ctrl-C ends, and channels as mailboxes: a slow reader holds up nobody.

    python chat_server.py --port 7000           # then: nc localhost 7000
"""

import argparse
import socket

import weft

mailboxes = set()


def broadcast(line):
    for mailbox in mailboxes:
        mailbox.try_send(line)  # who reads too slowly misses it


def deliver(connection, mailbox):
    for line in mailbox:
        connection.sendall(line.encode())


def serve(connection):
    name, mailbox = "", weft.Channel(100)  # lines that may wait for the client
    try:
        with connection, connection.makefile(encoding="utf-8", errors="replace") as lines, weft.TaskGroup() as group:
            group.spawn(deliver, connection, mailbox)
            name = lines.readline(100).strip()
            mailboxes.add(mailbox)
            broadcast(f"* {name} is here\n")
            while line := lines.readline(1000):
                broadcast(f"{name}: {line.rstrip()}\n")
            group.cancel()
    except* OSError:
        pass  # it went without a word
    mailboxes.discard(mailbox)
    broadcast(f"* {name} has left\n")


def main():
    parser = argparse.ArgumentParser(description="A chat by lines of text over TCP.")
    parser.add_argument("--port", type=int, default=7000, help="0 takes a free one (default: 7000)")
    weft.patch()
    with socket.create_server(("127.0.0.1", parser.parse_args().port)) as listener, weft.TaskGroup() as clients:
        print(f"chat at 127.0.0.1:{listener.getsockname()[1]}", flush=True)
        while True:
            clients.spawn(serve, listener.accept()[0])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped")
    except (OSError, OverflowError) as error:
        raise SystemExit(f"chat_server: {error}") from None
