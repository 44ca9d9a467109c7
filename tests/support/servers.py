"""Real servers for the tests: PostgreSQL, MariaDB, Redis and nginx, each on a free port of the loopback.

Each server keeps everything in a temporary folder, runs in the foreground as our child, is stopped by its process id,
and works for root (it then runs as an unprivileged user) and for anyone else. A missing server fails the test that
needs it: scripts/setup installs them all.

    with Postgres() as server:
        server.port, server.user, server.pid
"""

import contextlib
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

START_SECONDS = 60
STOP_SECONDS = 20
PORT_ATTEMPTS = 5


class ServerError(Exception):
    """A server is missing, or does not start; the message holds the end of its log."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def find_program(*names):
    """The path of the first of `names` that exists; servers often lie outside PATH."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/usr/local/sbin", "/sbin",
               *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]
    for name in names:
        found = shutil.which(name, path=os.pathsep.join(folders))
        if found:
            return found
    raise ServerError(f"no {' or '.join(names)} found: run scripts/setup")


class Server:
    """REQUIRES of a subclass: `account`, `prepare()`, `command()`, and `answers()` when a connection is not enough."""

    account = "nobody"  # whom to run as when we are root
    stop_signal = signal.SIGTERM

    def __init__(self):
        self.port = None
        self.process = None
        self.folder = None

    @property
    def pid(self):
        return self.process.pid

    @property
    def user(self):
        """The account the server runs as."""
        if os.geteuid() != 0:
            return pwd.getpwuid(os.geteuid()).pw_name
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(self.account).pw_name
        return "nobody"

    def prepare(self):
        """Writes what the server needs before its first start."""

    def command(self):
        raise NotImplementedError

    def answers(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True

    def identity(self):
        """Arguments for subprocess that make the child an unprivileged user, whose temporary files lie where it may write."""
        environment = {"env": {**os.environ, "TMPDIR": str(self.folder)}}
        if os.geteuid() != 0:
            return environment
        account = pwd.getpwnam(self.user)
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": [], **environment}

    def call(self, *command):
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, check=False,
                              stdin=subprocess.DEVNULL, **self.identity())
        if done.returncode != 0:
            raise ServerError(f"{' '.join(map(str, command))}: {done.stderr or done.stdout}")

    def __enter__(self):
        # Not pytest's folder: an unprivileged account cannot enter that one. Short, for the sake of Unix sockets.
        self.folder = Path(tempfile.mkdtemp(prefix="weft-server-", dir="/tmp"))
        try:
            if os.geteuid() == 0:
                account = pwd.getpwnam(self.user)
                os.chown(self.folder, account.pw_uid, account.pw_gid)
            self.prepare()
            for attempt in range(PORT_ATTEMPTS):
                self.port = free_port()
                try:
                    self._start()
                    return self
                except ServerError:
                    # Another process may have taken the port meanwhile.
                    if attempt == PORT_ATTEMPTS - 1:
                        raise
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self):
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.folder, **self.identity())
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self.process.poll() is None:
                with contextlib.suppress(OSError):
                    if self.answers():
                        return
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                log = (self.folder / "log").read_text(errors="replace")
                raise ServerError(f"{type(self).__name__} does not start:\n{log[-3000:]}")
            time.sleep(0.05)

    def stop(self):
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(self.stop_signal)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Postgres(Server):
    """Trusts every local connection; the superuser and database are both `postgres`."""

    account = "postgres"
    stop_signal = signal.SIGINT  # end the sessions at once, shut down cleanly

    def prepare(self):
        self.call(find_program("initdb"), "-D", self.folder / "data", "-A", "trust", "-U", "postgres", "-N",
                  "--locale=C", "-E", "UTF8")

    def command(self):
        # mmap: nothing in /dev/shm, where leak tests look for what is left.
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder,
                    "max_connections": 200, "fsync": "off", "dynamic_shared_memory_type": "mmap"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [find_program("postgres"), "-D", str(self.folder / "data"), *options]

    @property
    def dsn(self):
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"

    def answers(self):
        import psycopg2
        try:
            psycopg2.connect(self.dsn, connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True


class MariaDB(Server):
    """Its user `root` needs no password."""

    account = "mysql"

    def prepare(self):
        self.call(find_program("mariadb-install-db", "mysql_install_db"), "--no-defaults", "--skip-test-db",
                  "--auth-root-authentication-method=normal", f"--datadir={self.folder / 'data'}")

    def command(self):
        return [find_program("mariadbd", "mysqld"), "--no-defaults", f"--datadir={self.folder / 'data'}",
                f"--port={self.port}", "--bind-address=127.0.0.1", f"--socket={self.folder / 'socket'}",
                f"--pid-file={self.folder / 'pid'}", "--max-connections=200", "--skip-name-resolve",
                "--innodb-flush-log-at-trx-commit=0"]

    def answers(self):
        import MySQLdb
        try:
            MySQLdb.connect(host="127.0.0.1", port=self.port, user="root", connect_timeout=2).close()
        except MySQLdb.OperationalError:
            return False
        return True


class Redis(Server):
    account = "redis"

    def command(self):
        return [find_program("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                "--appendonly", "no", "--dir", str(self.folder)]

    def answers(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")


class Nginx(Server):
    """Serves `root`, a folder of its own; `locations` is put into its server block."""

    account = "www-data"

    def __init__(self, locations=""):
        super().__init__()
        self.locations = locations

    @property
    def root(self):
        return self.folder / "root"

    def prepare(self):
        self.root.mkdir()
        self.root.chmod(0o755)
        (self.root / "index.html").write_text("weft\n")

    def command(self):
        temporary = "".join(f"  {kind}_temp_path {self.folder}/{kind};\n"
                            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (self.folder / "nginx.conf").write_text(f"""daemon off;
master_process off;
pid {self.folder}/pid;
error_log {self.folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
{temporary}  server {{
    listen 127.0.0.1:{self.port};
    root {self.root};
    {self.locations}
  }}
}}
""")
        return [find_program("nginx"), "-p", str(self.folder), "-e", str(self.folder / "error.log"), "-c",
                str(self.folder / "nginx.conf")]


def _fixture(kind):
    @pytest.fixture(scope="session", name=kind.__name__.lower())
    def running():
        with kind() as server:
            yield server

    return running


postgres, mariadb, redis, nginx = (_fixture(kind) for kind in (Postgres, MariaDB, Redis, Nginx))
