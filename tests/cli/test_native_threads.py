"""Threads that a library starts for itself beside fibers, and forked children of threads."""

import pytest

LIBRARY = r"""
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
static int port;
static char answer[3];
static void *ask(void *unused) {
  (void)unused;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, (void *)&address, sizeof address) == 0 && send(fd, "hi", 2, 0) == 2) recv(fd, answer, 2, MSG_WAITALL);
  close(fd);
  return answer;
}
const char *ask_in_a_thread(int where, int timed) {
  pthread_t thread;
  void *result = 0;
  port = where;
  pthread_create(&thread, 0, ask, 0);
  struct timespec limit;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += 30;
  if (timed ? pthread_timedjoin_np(thread, &result, &limit) : pthread_join(thread, &result)) return "failed";
  return result;
}
static void (*callback)(void);
static void *call_back(void *unused) { callback(); return unused; }
void from_a_thread(void (*call)(void)) {
  pthread_t thread;
  callback = call;
  pthread_create(&thread, 0, call_back, 0);
  pthread_join(thread, 0);
}
"""

JOIN = """
import ctypes, socket, threading
library = ctypes.CDLL({library!r})
library.ask_in_a_thread.restype = ctypes.c_char_p
server = socket.create_server(("127.0.0.1", 0))
def serve():
    for _ in range(2):
        connection, _ = server.accept()
        connection.sendall(connection.recv(2))
        connection.close()
threading.Thread(target=serve).start()
print(*[library.ask_in_a_thread(server.getsockname()[1], timed) for timed in (0, 1)])
"""

FIRST_THREAD = """
import ctypes, threading
library = ctypes.CDLL({library!r})
wanted, done = threading.Event(), threading.Event()
def work():
    wanted.wait()
    done.set()
@ctypes.CFUNCTYPE(None)
def start(): threading.Thread(target=work).start()
library.from_a_thread(start)
wanted.set()
print(done.wait(20))
later = threading.Thread(target=print, args=("a fiber",))
later.start()
later.join()
"""

FORK = """
import os, threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
def fork():
    child = os.fork()
    if child == 0: return
    print("ended", os.waitpid(child, 0)[1], flush=True)
    os._exit(0)
thread = threading.Thread(target=fork)
thread.start()
thread.join()
"""


@pytest.fixture
def library(compile_c):
    return str(compile_c("libnative.so", LIBRARY, "-shared", "-fPIC", "-pthread", "-D_GNU_SOURCE"))


def test_joining_a_librarys_thread_lets_others_run(weft, python, library):
    """The library's thread talks to a server that is a fiber: a join that blocked the carrier would never end."""
    done = weft("run", python, "-c", JOIN.format(library=library))
    assert (done.returncode, done.stdout, done.stderr) == (0, "b'hi' b'hi'\n", "")


def test_a_librarys_thread_does_not_become_the_carrier(weft, python, library):
    """It ends, and with it all fibers would."""
    done = weft("run", "--stats", python, "-c", FIRST_THREAD.format(library=library))
    assert (done.returncode, done.stdout) == (0, "True\na fiber\n"), done.stderr
    assert "1 created" in done.stderr


def test_a_child_that_was_forked_by_a_thread_ends_with_it(weft, python):
    done = weft("run", python, "-c", FORK)
    assert (done.returncode, done.stdout) == (0, "ended 0\n"), done.stderr
