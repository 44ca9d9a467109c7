#!/usr/bin/env python3
"""A web service the plain way: one thread a client, blocking calls, the standard library and nothing else.

Every request waits 100 ms, as for some slower service, and reads a row from an SQLite database.

    python3 examples/slow_server.py --port 8000
    weft run python3 examples/slow_server.py --port 8000
"""

import argparse
import contextlib
import http.server
import json
import os
import resource
import sqlite3
import tempfile
import threading
import time
import urllib.parse

ROWS = 1000
_local = threading.local()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep-alive
    disable_nagle_algorithm = True

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        if url.path != "/greeting":
            self.send_error(404)
            return
        try:
            number = int(query.get("id", ["1"])[0])
        except ValueError:
            self.send_error(400, "id must be a number")
            return
        time.sleep(self.server.delay)
        row = self.greeting(number)
        if row is None:
            self.send_error(404, "no such greeting")
            return
        body = json.dumps({"id": number, "greeting": row[0]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def greeting(self, number):
        # A connection for each thread, as the sqlite3 module wants it.
        if not hasattr(_local, "database"):
            _local.database = sqlite3.connect(self.server.database)
        return _local.database.execute("SELECT text FROM greetings WHERE id = ?", (number,)).fetchone()

    def finish(self):
        super().finish()
        if hasattr(_local, "database"):
            _local.database.close()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 4096  # thousands of clients come at once
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients come and go


def create_database(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE greetings (id INTEGER PRIMARY KEY, text TEXT)")
        database.executemany("INSERT INTO greetings VALUES (?, ?)",
                             [(number, f"hello, number {number}") for number in range(1, ROWS + 1)])
        database.commit()


def main():
    parser = argparse.ArgumentParser(description="A threaded HTTP server whose requests each wait, then read a row.")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    parser.add_argument("--delay", type=float, default=0.1, metavar="SECONDS", help="of each request (default: 0.1)")
    arguments = parser.parse_args()
    # Each client takes two descriptors: its socket and its database.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as folder:
        database = os.path.join(folder, "greetings.db")
        create_database(database)
        with Server(("127.0.0.1", arguments.port), Handler) as server:
            server.database, server.delay = database, arguments.delay
            print(f"serving http://127.0.0.1:{server.server_port}/greeting?id=1", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print("stopped", flush=True)


if __name__ == "__main__":
    main()
