"""Files, descriptors, children and names, by what Python's own library makes of them, under `weft run`."""

import textwrap

import pytest

PRELUDE = '''
import errno, fcntl, mmap, os, pty, signal, socket, sqlite3, subprocess, tempfile, threading, time

class Others:
    """A thread that counts while the body runs: it must get its turns."""
    def __enter__(self):
        self.ticks, self.over = 0, False
        self.thread = threading.Thread(target=self.count)
        self.thread.start()
        return self
    def count(self):
        while not self.over:
            self.ticks += 1
            time.sleep(0.001)
    def __exit__(self, *error):
        self.over = True
        self.thread.join()

def together(*bodies):
    """Runs the bodies in a thread each; all must succeed."""
    failures = []
    def run(body):
        try:
            body()
        except BaseException as error:
            failures.append(error)
            raise
    threads = [threading.Thread(target=run, args=(body,)) for body in bodies]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert not failures, failures
'''


@pytest.fixture
def run(start_program, backend, tmp_path):
    """run(code) -> the statistics of a program under weft that ran it without a complaint."""

    def run(code):
        script = tmp_path / "program.py"
        script.write_text(PRELUDE + textwrap.dedent(code) + "\nprint('done')\n")
        program = start_program(script, backend=backend)
        exit_code, out, err = program.finish()
        assert (exit_code, out, err) == (0, "done\n", "")
        stats = program.stats()
        assert stats["backend"] == backend
        assert stats["native_threads"] == 0
        return stats

    return run


def long_pins(stats, calls):
    return [pin for pin in stats["pins"] if pin["call"] in calls and pin["longest_ns"] > 50_000_000]


def test_children_are_waited_for_together(run):
    stats = run('''
        start = time.monotonic()
        with Others() as others:
            def child(code):
                process = subprocess.Popen(["/bin/sh", "-c", f"sleep 0.5; exit {code}"])
                assert process.wait() == code
            together(*[lambda code=code: child(code) for code in range(30)])
        assert time.monotonic() - start < 10, "one after the other it takes 15 s"
        assert others.ticks > 20
        ''')
    assert not long_pins(stats, {"waitpid", "wait4"})


def test_communicate_and_time_limits(run):
    run('''
        def talk():
            process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            data = os.urandom(300_000)
            assert process.communicate(data)[0] == data
        def late():
            process = subprocess.Popen(["sleep", "60"])
            try:
                process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                process.kill()
            else:
                raise AssertionError("no timeout")
            assert process.wait() == -signal.SIGKILL
            try:
                subprocess.run(["sleep", "60"], timeout=0.1, capture_output=True)
            except subprocess.TimeoutExpired:
                pass
        together(*[talk] * 10, *[late] * 5)
        ''')


def test_every_form_of_wait(run):
    run('''
        def exiting(code):
            return os.posix_spawn("/bin/sh", ["sh", "-c", f"sleep 0.05; exit {code}"], os.environ)
        pids = {exiting(code): code for code in (1, 2, 3)}
        def wait_any():
            for _ in range(3):
                pid, status = os.wait()
                assert os.waitstatus_to_exitcode(status) == pids.pop(pid)
        with Others():
            together(wait_any)
            pid = exiting(4)
            found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            assert (found.si_pid, found.si_status) == (pid, 4)
            assert os.wait4(pid, 0)[:2] == (pid, 4 << 8)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                pass
            else:
                raise AssertionError("there was no child")
            stopped = os.posix_spawnp("sleep", ["sleep", "60"], os.environ)
            os.kill(stopped, signal.SIGSTOP)
            assert os.WIFSTOPPED(os.waitpid(stopped, os.WUNTRACED)[1])
            os.kill(stopped, signal.SIGKILL)
            os.waitpid(stopped, 0)
            assert os.waitstatus_to_exitcode(os.system("exit 7")) == 7
            with os.popen("sleep 0.05; echo out") as stream:
                assert stream.read() == "out\\n"
        ''')


def test_a_signal_ends_waits_of_the_main_thread(run):
    run('''
        class Alarm(Exception): pass
        def ring(*_): raise Alarm
        signal.signal(signal.SIGALRM, ring)
        directory = tempfile.mkdtemp()
        fifo, lock = directory + "/fifo", directory + "/lock"
        os.mkfifo(fifo)
        child = subprocess.Popen(["sleep", "60"])
        held, wanted = open(lock, "w"), open(lock, "w")
        fcntl.flock(held, fcntl.LOCK_EX)
        reading, writing = os.pipe()
        master, slave = pty.openpty()
        with Others() as others:
            for wait in (lambda: os.waitpid(child.pid, 0), os.wait, lambda: os.read(reading, 1),
                         lambda: os.open(fifo, os.O_RDONLY), lambda: os.open(fifo, os.O_WRONLY),
                         lambda: fcntl.flock(wanted, fcntl.LOCK_EX), lambda: os.read(slave, 1),
                         lambda: os.write(writing, bytes(1 << 20)) and os.write(writing, b"x")):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                start = time.monotonic()
                try:
                    wait()
                except Alarm:
                    assert time.monotonic() - start < 5
                else:
                    raise AssertionError("it did not wait")
        child.kill()
        child.wait()
        assert others.ticks > 50
        ''')


def test_files_of_all_sizes(run):
    run('''
        directory = tempfile.mkdtemp()
        def work(number):
            for size in (0, 1, 4096, 100_000, 3_000_000):
                data = os.urandom(size)
                path = f"{directory}/{number}-{size}"
                with open(path, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                with open(path, "rb") as file:
                    assert file.read() == data
                with open(path, "r+b") as file:
                    if size:
                        with mmap.mmap(file.fileno(), 0) as memory:
                            memory[0:1] = b"w"
                            memory.flush()
                            assert os.pread(file.fileno(), 1, 0) == b"w"
                    os.truncate(path, 10)
                    os.posix_fallocate(file.fileno(), 0, 20)
                    assert os.fstat(file.fileno()).st_size == 20
                os.unlink(path)
            with tempfile.TemporaryFile() as file:
                file.write(b"text" * 1000)
                file.seek(0)
                assert len(file.read()) == 4000
        together(*[lambda number=number: work(number) for number in range(10)])
        log = open(directory + "/log", "ab", buffering=0)
        def append(letter):
            for _ in range(200): log.write(letter * 99 + b"\\n")
        together(*[lambda letter=letter: append(letter) for letter in (b"a", b"b", b"c")])
        lines = open(directory + "/log", "rb").read().splitlines()
        assert len(lines) == 600 and all(len(line) == 99 and len(set(line)) == 1 for line in lines)
        ''')


def test_pipes_fifos_and_terminals(run):
    stats = run('''
        directory = tempfile.mkdtemp()
        def through_pipe():
            reading, writing = os.pipe()
            def send():
                with open(writing, "wb") as stream: stream.write(bytes(2_000_000))
            sender = threading.Thread(target=send)
            sender.start()
            with open(reading, "rb") as stream: assert len(stream.read()) == 2_000_000
            sender.join()
        def through_fifo(number):
            path = f"{directory}/fifo-{number}"
            os.mkfifo(path)
            def send():
                with open(path, "wb") as stream: stream.write(bytes(300_000))
            sender = threading.Thread(target=send)
            sender.start()
            with open(path, "rb") as stream: assert len(stream.read()) == 300_000
            sender.join()
        def through_terminal():
            master, slave = pty.openpty()
            seen = []
            reader = threading.Thread(target=lambda: seen.append(os.read(slave, 100)))
            reader.start()
            os.write(master, b"a line\\n")
            reader.join()
            assert seen == [b"a line\\n"], seen
            os.write(slave, b"answer\\n")
            assert os.read(master, 100).startswith(b"a line\\r\\n")
        with Others():
            together(*[through_pipe] * 5, *[lambda n=n: through_fifo(n) for n in range(5)], *[through_terminal] * 3)
        pid, master = pty.fork()
        if pid == 0:
            os.write(1, b"child\\n")
            os._exit(3)
        assert os.read(master, 100) == b"child\\r\\n"
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
        ''')
    assert not long_pins(stats, {"read", "write", "open"})


def test_closing_wakes_readers(run):
    run('''
        def check(close):
            reading, writing = os.pipe()
            outcome = []
            def read():
                try:
                    outcome.append(os.read(reading, 1))
                except OSError as error:
                    outcome.append(error.errno)
            reader = threading.Thread(target=read)
            reader.start()
            time.sleep(0.05)
            assert not outcome
            close(reading)
            reader.join()
            assert outcome == [errno.EBADF], outcome
        check(os.close)
        check(lambda fd: os.closerange(fd, fd + 1))
        null = os.open("/dev/null", os.O_RDONLY)
        check(lambda fd: os.dup2(null, fd))
        os.closerange(3, 65536)
        with Others(): time.sleep(0.05)
        reading, writing = os.pipe()
        thread = threading.Thread(target=os.read, args=(reading, 1))
        thread.start()
        os.write(writing, b"x")
        thread.join()
        ''')


def test_sqlite_waits_for_its_lock_beside_others(run):
    run('''
        path = tempfile.mkdtemp() + "/base"
        sqlite3.connect(path).execute("create table t(a)")
        def add():
            base = sqlite3.connect(path, timeout=60, isolation_level=None)
            for number in range(20):
                base.execute("begin immediate")
                base.execute("insert into t values(?)", (number,))
                base.execute("commit")
        with Others() as others: together(*[add] * 5)
        assert sqlite3.connect(path).execute("select count(*) from t").fetchone() == (100,)
        assert others.ticks > 5
        ''')


def test_names_are_asked_for_together(run):
    stats = run('''
        import grp, pwd
        os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"  # it takes 10 s to find out that no name server answers
        def ask():
            assert ("127.0.0.1", 80) in [found[4] for found in socket.getaddrinfo("localhost", 80)]
            assert socket.gethostbyname("localhost") == "127.0.0.1"
            assert socket.getservbyname("http") == 80
            assert pwd.getpwuid(0).pw_name == grp.getgrgid(0).gr_name == "root"
            try:
                socket.getaddrinfo("nohost.invalid", 80)
            except socket.gaierror:
                pass
            else:
                raise AssertionError("found nohost.invalid")
        with Others(): together(*[ask] * 100)
        ''')
    assert stats["parks"]["offload"] >= 300
    assert not long_pins(stats, {"getaddrinfo"})


TERMINAL = """
        class Terminal:
            def __enter__(self):
                self.master, slave = pty.openpty()
                self.before = [os.dup(fd) for fd in range(3)]
                for fd in range(3): os.dup2(slave, fd)
                os.close(slave)
                return self.master
            def __exit__(self, *error):
                for fd, before in enumerate(self.before): os.dup2(before, fd)
"""


def test_input_from_a_terminal_lets_others_run(run):
    stats = run(
        TERMINAL
        + """
        def answer():
            assert os.read(terminal, 100) == b"Name? "
            before = others.ticks
            while others.ticks < before + 100: time.sleep(0.01)
            os.write(terminal, b"Ada\\n")
        with Others() as others, Terminal() as terminal:
            thread = threading.Thread(target=answer)
            thread.start()
            assert input("Name? ") == "Ada"
            thread.join()
            os.write(terminal, b"\\x04")
            try: input()
            except EOFError: pass
            else: assert False
        """
    )
    assert not long_pins(stats, ["fgets"])


def test_ctrl_c_ends_input(run):
    run(
        TERMINAL
        + """
        def interrupt():
            assert os.read(terminal, 100) == b"? "
            os.kill(os.getpid(), signal.SIGINT)
        with Terminal() as terminal:
            thread = threading.Thread(target=interrupt)
            thread.start()
            try: input("? ")
            except KeyboardInterrupt: pass
            else: assert False
            thread.join()
        """
    )


def test_a_stream_tells_what_is_wrong_at_once(run):
    run(
        """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        libc.fdopen.restype = ctypes.c_void_p
        line = ctypes.create_string_buffer(100)
        def fgets(stream): return libc.fgets(line, 100, ctypes.c_void_p(stream))
        def body():
            reader, writer = os.pipe()
            stream = libc.fdopen(writer, b"w")
            assert not fgets(stream) and ctypes.get_errno() == errno.EBADF
            stream = libc.fdopen(reader, b"r")
            os.set_blocking(reader, False)
            assert not fgets(stream) and ctypes.get_errno() == errno.EAGAIN
            assert libc.ferror(ctypes.c_void_p(stream))
            left, right = socket.socketpair()
            right.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, b"\\0" * 8 + (50_000).to_bytes(8, "little"))
            stream = libc.fdopen(right.fileno(), b"r")
            began = time.monotonic()
            assert not fgets(stream) and ctypes.get_errno() == errno.EAGAIN
            assert 0.05 <= time.monotonic() - began < 0.5
            left.send(b"one\\ntwo\\n")
            libc.clearerr(ctypes.c_void_p(stream))
            assert fgets(stream) and line.value == b"one\\n" and fgets(stream) and line.value == b"two\\n"
            left.close()
            assert not fgets(stream) and libc.feof(ctypes.c_void_p(stream))
        together(body)
        """
    )


STREAMS = """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        libc.fdopen.restype = libc.fmemopen.restype = ctypes.c_void_p
        def open_stream(fd, mode=b"r"): return ctypes.c_void_p(libc.fdopen(fd, mode))
        def read_line(stream):
            line = ctypes.create_string_buffer(100)
            return line.value if libc.fgets(line, 100, stream) else None
"""


def test_a_terminal_that_does_not_wait_is_not_waited_for(run):
    run(
        STREAMS
        + """
        import termios
        def body():
            master, slave = pty.openpty()
            settings = termios.tcgetattr(slave)
            settings[3] &= ~termios.ICANON
            settings[6][termios.VMIN] = settings[6][termios.VTIME] = 0
            termios.tcsetattr(slave, termios.TCSANOW, settings)
            assert libc.fgetc(open_stream(slave)) == -1
        together(body)
        """
    )


def test_what_was_written_goes_out_before_the_answer_is_waited_for(run):
    run(
        STREAMS
        + """
        left, right = socket.socketpair()
        def ask():
            stream = open_stream(left.fileno(), b"r+")
            assert libc.fputs(b"question\\n", stream) >= 0
            assert read_line(stream) == b"answer\\n"
        def answer():
            assert right.recv(100) == b"question\\n"
            right.send(b"answer\\n")
        together(ask, answer)
        """
    )


def test_lines_of_one_stream_go_to_several_threads(run):
    run(
        STREAMS
        + """
        reader, writer = os.pipe()
        stream, lines = open_stream(reader), []
        def take():
            while line := read_line(stream): lines.append(line)
        def put():
            for number in range(50):
                os.write(writer, b"%d\\n" % number)
                while len(lines) <= number: time.sleep(0.001)
            os.close(writer)
        together(take, take, take, put)
        assert sorted(lines) == sorted(b"%d\\n" % number for number in range(50))
        """
    )


def test_a_stream_without_a_descriptor_leaves_errno_alone(run):
    run(
        STREAMS
        + """
        text = ctypes.create_string_buffer(b"one\\n")
        def body():
            stream = ctypes.c_void_p(libc.fmemopen(text, 4, b"r"))
            assert read_line(stream) == b"one\\n"
            ctypes.set_errno(0)
            assert read_line(stream) is None and ctypes.get_errno() == 0
        together(body)
        """
    )
