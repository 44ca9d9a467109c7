"""serve() and connect(): actors for processes that are no relations."""

import socket

import pytest

import weft
import weft.actor


class Worker(weft.actor.ThreadingActor):
    def same(self, ref):
        return ref == self.actor_ref

    def on_receive(self, message):
        return message


@pytest.fixture
def worker():
    ref = Worker.start()
    yield ref
    ref.stop()


def test_served(tmp_path, run_program, worker):
    path = tmp_path / "socket"
    with weft.actor.serve(path, worker, authkey=b"key") as service:
        assert path.stat().st_mode & 0o777 == 0o600
        program = """
            import sys, weft.actor
            ref = weft.actor.connect(sys.argv[1], authkey=sys.argv[2].encode())
            print(ref.ask("hello"), ref.proxy().same(ref).get())
        """
        with pytest.raises(OSError, match="another process serves"):
            weft.actor.serve(path, worker)
        connected = weft.actor.connect(path, authkey=b"key", timeout=30)
        assert connected == worker and connected.ask("here") == "here"
        for key, end in (("key", "hello True\n"), ("other", "")):
            done = weft.to_thread(run_program, program, str(path), key)
            assert done.stdout == end and ("AuthenticationError" in done.stderr) == (key == "other"), done.stderr
    assert not path.exists()
    service.close()


def test_paths_that_cannot_be(tmp_path, worker):
    with pytest.raises(OSError, match="107 bytes at most"):
        weft.actor.serve(tmp_path / ("x" * 200), worker)
    with pytest.raises(FileNotFoundError, match="nothing"):
        weft.actor.serve(tmp_path / "nothing" / "socket", worker)
    with pytest.raises(FileNotFoundError, match="nothing"):
        weft.actor.connect(tmp_path / "nothing")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
    with pytest.raises(ConnectionRefusedError, match="left"):
        weft.actor.connect(tmp_path / "left")
    weft.actor.serve(tmp_path / "left", worker).close()
    with pytest.raises(TypeError, match="must be bytes"):
        weft.actor.connect(tmp_path / "left", authkey="text")
    with pytest.raises(TypeError, match="takes an ActorRef"):
        weft.actor.serve(tmp_path / "left", 7)


def test_what_is_no_socket_stays(tmp_path, worker):
    precious = tmp_path / "file"
    precious.write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(precious)
    for path in (precious, link):
        with pytest.raises(FileExistsError, match="no socket"):
            weft.actor.serve(path, worker)
    assert link.is_symlink() and precious.read_text() == "precious"


def test_an_actor_that_has_stopped_is_not_served(tmp_path, worker):
    worker.stop()
    with pytest.raises(weft.actor.ActorDeadError):
        weft.actor.serve(tmp_path / "socket", worker)
    assert not (tmp_path / "socket").exists()


def test_the_path_is_gone_when_the_program_has_ended(tmp_path, run_program):
    done = run_program(
        """
        import sys, weft.actor
        ref = weft.actor.ThreadingActor.start()
        weft.actor.serve(sys.argv[1], ref)
        ref.stop()
        """,
        str(tmp_path / "socket"),
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "socket").exists()
