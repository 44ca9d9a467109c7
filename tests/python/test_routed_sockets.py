"""CPython's own networking, unchanged, with every thread a fiber: one OS thread does it all."""

import textwrap

import pytest

SOCKET = """
    import socket, threading
    def echo(connection):
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data)
    def serve(listener):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=echo, args=(connection,), daemon=True).start()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    payload = bytes(range(256)) * 4096
    def client():
        with socket.create_connection(listener.getsockname()) as connection:
            writer = threading.Thread(target=connection.sendall, args=(payload,))
            writer.start()
            received = bytearray()
            while len(received) < len(payload):
                received += connection.recv(65536)
            writer.join()
            assert received == payload
    clients = [threading.Thread(target=client) for _ in range(20)]
    for thread in clients: thread.start()
    for thread in clients: thread.join()
    print("ok")
"""

TIMEOUTS = """
    import socket, struct, threading, time
    def lasts(call, error, seconds):
        start = time.monotonic()
        try:
            call()
        except error:
            passed = time.monotonic() - start
            assert seconds <= passed < seconds + 1, passed
        else:
            raise AssertionError("no error")
    listener = socket.create_server(("127.0.0.1", 0))
    a, b = socket.socketpair()
    for settle in (lambda s: s.settimeout(0.1),
                   lambda s: s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100000))):
        for sock, call in ((a, lambda: a.recv(1)), (listener, listener.accept)):
            settle(sock)
            thread = threading.Thread(target=lasts, args=(call, (TimeoutError, BlockingIOError), 0.1))
            thread.start()
            thread.join()
            sock.settimeout(None)
    print("ok")
"""

SELECTORS = """
    import select, selectors, socket, threading
    def run(selector_class):
        pairs = [socket.socketpair() for _ in range(50)]
        seen = set()
        def watch():
            with selector_class() as selector:
                for number, (mine, _) in enumerate(pairs):
                    selector.register(mine, selectors.EVENT_READ, number)
                while len(seen) < len(pairs):
                    for key, _ in selector.select():
                        key.fileobj.recv(1)
                        seen.add(key.data)
        watcher = threading.Thread(target=watch)
        watcher.start()
        for _, other in pairs:
            other.send(b"x")
        watcher.join()
        for pair in pairs:
            for sock in pair: sock.close()
    for selector_class in (selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector):
        threads = [threading.Thread(target=run, args=(selector_class,)) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    print("ok")
"""

ASYNCIO = """
    import asyncio, threading
    async def echo(reader, writer):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
        writer.close()
    async def client(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(10):
            writer.write(b"x" * 1000)
            assert len(await reader.readexactly(1000)) == 1000
        writer.close()
        await writer.wait_closed()
    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await asyncio.gather(*(client(port) for _ in range(20)))
        assert await asyncio.to_thread(lambda: threading.current_thread() is not threading.main_thread())
        server.close()
    # A loop in each thread: each waits in epoll, and none may keep the others from running.
    loops = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(5)]
    for thread in loops: thread.start()
    for thread in loops: thread.join()
    print("ok")
"""

SOCKETSERVER = """
    import socket, socketserver, threading
    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                self.wfile.write(line.upper())
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 200
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        def client():
            with socket.create_connection(server.server_address) as sock, sock.makefile("rw") as file:
                for number in range(20):
                    print("hello", number, file=file, flush=True)
                    assert file.readline() == f"HELLO {number}\\n"
        clients = [threading.Thread(target=client) for _ in range(100)]
        for thread in clients: thread.start()
        for thread in clients: thread.join()
        server.shutdown()
    print("ok")
"""

HTTP_SERVER = """
    import http.client, http.server, os, tempfile, threading
    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 200
    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def log_message(self, *_): pass
    os.chdir(tempfile.mkdtemp())
    content = os.urandom(1 << 20)
    with open("file", "wb") as file: file.write(content)
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    def client():
        connection = http.client.HTTPConnection(*server.server_address)
        for _ in range(3):
            connection.request("GET", "/file")
            assert connection.getresponse().read() == content
        connection.close()
    clients = [threading.Thread(target=client) for _ in range(20)]
    for thread in clients: thread.start()
    for thread in clients: thread.join()
    server.shutdown()
    os.unlink("file"); os.rmdir(os.getcwd())
    print("ok")
"""

SENDFILE = """
    import os, socket, tempfile, threading
    content = os.urandom(3 << 20)
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        def transfer(send):
            a, b = socket.socketpair()
            def receive():
                got = bytearray()
                while data := b.recv(65536): got += data
                assert got == content
                b.close()
            reader = threading.Thread(target=receive)
            reader.start()
            with a: send(a)
            reader.join()
        def by_os(sock):
            offset = 0
            while sent := os.sendfile(sock.fileno(), file.fileno(), offset, len(content)): offset += sent
        def by_socket(sock):
            with open(file.fileno(), "rb", closefd=False) as again: sock.sendfile(again)
        transfer(by_os)
        transfer(by_socket)
    print("ok")
"""

UDP_AND_UNIX = """
    import array, os, socket, tempfile, threading
    # Datagrams, to a receiver that is slower than the sender.
    path = os.path.join(tempfile.mkdtemp(), "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver, \\
         socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        receiver.bind(path)
        got = []
        reader = threading.Thread(target=lambda: [got.append(receiver.recv(10)) for _ in range(1000)])
        reader.start()
        for number in range(1000): sender.sendto(b"%d" % number, path)
        reader.join()
        assert got == [b"%d" % number for number in range(1000)]
    # Descriptors on the way.
    a, b = socket.socketpair()
    def receive():
        data, control, _, _ = b.recvmsg(10, socket.CMSG_LEN(4))
        (fd,) = array.array("i", control[0][2])
        os.write(fd, b"through")
        os.close(fd)
    thread = threading.Thread(target=receive)
    thread.start()
    r, w = os.pipe()
    a.sendmsg([b"fd"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [w]))])
    thread.join()
    assert os.read(r, 10) == b"through"
    print("ok")
"""


@pytest.mark.parametrize("script", ["SOCKET", "TIMEOUTS", "SELECTORS", "ASYNCIO", "SOCKETSERVER", "HTTP_SERVER", "SENDFILE",
                                    "UDP_AND_UNIX"])
def test_runs_on_one_os_thread(script, backend, start_program, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(globals()[script]))
    program = start_program(path, backend=backend)
    code, out, err = program.finish()
    assert (code, out, err) == (0, "ok\n", "")
    stats = program.stats()
    assert stats["backend"] == backend
    assert stats["native_threads"] == 0
