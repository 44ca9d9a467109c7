#!/usr/bin/env python3
"""How many keep-alive clients does a `ThreadingHTTPServer` serve whose requests each sleep 100 ms?

The load comes from scripts/loadgen.py, in a process of its own that never runs under Weft.
"""

import http.server
import json
import subprocess
import sys
import threading
import time

from support.side_by_side import ROOT, main, memory_kib

DELAY = 0.1


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep-alive
    disable_nagle_algorithm = True

    def do_GET(self):
        time.sleep(DELAY)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 4096
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # the load generator counts what fails


def measure(clients, seconds=10, warmup=20):
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    load = subprocess.run(
        [sys.executable, ROOT / "scripts" / "loadgen.py", "--port", str(server.server_port), "--clients", str(clients),
         "--seconds", str(seconds), "--warmup", str(warmup), "--ramp", str(min(3, clients / 1000))],
        stdout=subprocess.PIPE, text=True, check=True)
    seen = json.loads(load.stdout.splitlines()[-1])
    return {"requests/s": seen["rate"], "p50, ms": (seen["p50"] or 0) * 1000, "p99, ms": (seen["p99"] or 0) * 1000,
            "clients served": seen["clients_served"],
            "errors (resets, timeouts)": sum(sum(seen[phase].values()) for phase in ("errors", "warmup_errors")),
            "memory, MiB": memory_kib() / 1024}


if __name__ == "__main__":
    sys.exit(main(__doc__, measure, cases=[{"clients": 100}, {"clients": 3000}],
                  quick=[{"clients": 20, "seconds": 0.5, "warmup": 2}]))
