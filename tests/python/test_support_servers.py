"""The servers the other tests rely on: they start, answer, and leave nothing behind."""

import os
import urllib.request

import pytest

import servers


@pytest.mark.parametrize("kind", [servers.Postgres, servers.MariaDB, servers.Redis, servers.Nginx])
def test_server_starts_answers_and_leaves_nothing(kind):
    with kind() as server:
        assert server.answers()
        pid, folder = server.pid, server.folder
        if os.geteuid() == 0:
            assert os.stat(f"/proc/{pid}").st_uid != 0
    assert not os.path.exists(f"/proc/{pid}")
    assert not folder.exists()


def test_nginx_serves_its_folder(nginx):
    with urllib.request.urlopen(f"http://127.0.0.1:{nginx.port}/") as answer:
        assert answer.read() == b"weft\n"


def test_a_server_that_cannot_start_says_why():
    class Broken(servers.Server):
        def command(self):
            return ["/bin/sh", "-c", "echo out of order; exit 3"]

    with pytest.raises(servers.ServerError, match="out of order"):
        Broken().__enter__()
