"""An HTTP server for the examples to talk to when they are given no other; it shows nothing of weft itself."""

import http.server
import threading
import time


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # a client that did not wait for its answer


def serve(answer):
    """Serves what answer(path) returns, (seconds to take, status, text), beside the caller; returns the base URL.

    One thread a client: fibers, after weft.patch().
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seconds, status, text = answer(self.path)
            time.sleep(seconds)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
