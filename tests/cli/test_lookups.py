"""Functions that a program looks up by name, and threads of C11."""

import json

import pytest

TOGETHER = """
import ctypes, threading
libc = ctypes.CDLL({library!r})
ends = threading.Barrier(21)
def body():
    ends.wait()
    libc.usleep(200_000)
threads = [threading.Thread(target=body) for _ in range(20)]
for thread in threads: thread.start()
ends.wait()
for thread in threads: thread.join()
"""


@pytest.mark.parametrize("library", [None, "libc.so.6"])
def test_what_ctypes_finds_in_libc_parks(weft, python, tmp_path, library):
    stats = tmp_path / "stats.json"
    done = weft("run", f"--stats-file={stats}", python, "-c", TOGETHER.format(library=library))
    assert (done.returncode, done.stderr) == (0, "")
    stats = json.loads(stats.read_text())
    assert not [pin for pin in stats["pins"] if "sleep" in pin["call"]]
    assert stats["parks"]["sleep"] >= 20


LOOKUPS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static void *nothing(void *argument) { return argument; }
int main(void) {
  void *libc = dlopen("libc.so.6", RTLD_NOLOAD | RTLD_NOW), *value = 0;
  pthread_t thread;
  if (pthread_create(&thread, 0, nothing, &value) || pthread_join(thread, &value)) return 1;
  /* Each way of looking it up finds the same function, and it is not the one inside libc. */
  void *found[] = {dlsym(RTLD_DEFAULT, "read"), dlsym(RTLD_NEXT, "read"), dlsym(libc, "read"),
                   dlvsym(libc, "read", "GLIBC_2.2.5")};
  for (int i = 0; i < 4; ++i) {
    Dl_info info;
    if (!dladdr(found[i], &info) || !strstr(info.dli_fname, "libweft-preload")) { printf("%d: %s\n", i, info.dli_fname); return 2; }
  }
  int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_DEFAULT, "pthread_create");
  if (create(&thread, 0, nothing, &value) || pthread_join(thread, &value)) return 3;
  Dl_info info;
  if (dlsym(libc, "no_such_function") || !dlerror() || !dladdr(dlsym(libc, "strlen"), &info)) return 4;
  if (strstr(info.dli_fname, "weft")) return 5;
  puts("done");
  return 0;
}
"""


def run_all(weft, tmp_path, program):
    stats = tmp_path / "stats.json"
    done = weft("run", "--threads=all", f"--stats-file={stats}", program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    stats = json.loads(stats.read_text())
    assert stats["native_threads"] == 0
    return stats


def test_every_way_of_looking_up_finds_the_routed_call(weft, compile_c, tmp_path):
    stats = run_all(weft, tmp_path, compile_c("lookups", LOOKUPS))
    assert stats["fibers"]["created"] == 2


C11 = r"""
#include <stdio.h>
#include <threads.h>
#include <time.h>
static mtx_t lock;
static cnd_t changed;
static tss_t key;
static int turn, destroyed;
static void destroy(void *value) { destroyed += *(int *)value; }
static struct timespec soon(long nanoseconds) {
  struct timespec time;
  timespec_get(&time, TIME_UTC);
  time.tv_nsec += nanoseconds;
  if (time.tv_nsec >= 1000000000) { time.tv_nsec -= 1000000000; ++time.tv_sec; }
  return time;
}
static int body(void *argument) {
  static int values[100];
  int number = (int)(long)argument;
  values[number] = 1;
  if (tss_set(key, &values[number]) != thrd_success || tss_get(key) != &values[number]) return -1;
  mtx_lock(&lock);
  while (turn != number) cnd_wait(&changed, &lock);
  ++turn;
  cnd_broadcast(&changed);
  mtx_unlock(&lock);
  if (tss_get(key) != &values[number]) return -1;
  if (number % 2) thrd_exit(number);
  return number;
}
static int hold(void *argument) {
  (void)argument;
  struct timespec time = soon(20000000);
  int result = mtx_timedlock(&lock, &time);
  if (result == thrd_success) mtx_unlock(&lock);
  return result;
}
static int try_it(void *mutex) {
  int result = mtx_trylock(mutex);
  if (result == thrd_success) mtx_unlock(mutex);
  return result;
}
int main(void) {
  thrd_t threads[100];
  int result;
  mtx_init(&lock, mtx_timed);
  cnd_init(&changed);
  if (tss_create(&key, destroy) != thrd_success) return 1;
  for (long i = 0; i < 100; ++i) if (thrd_create(&threads[i], body, (void *)(99 - i)) != thrd_success) return 2;
  for (long i = 0; i < 100; ++i) if (thrd_join(threads[i], &result) != thrd_success || result != 99 - i) return 3;
  if (destroyed != 100 || tss_get(key)) return 4;
  mtx_lock(&lock);
  if (thrd_create(&threads[0], hold, 0) || thrd_join(threads[0], &result) || result != thrd_timedout) return 5;
  struct timespec time = soon(20000000);
  if (cnd_timedwait(&changed, &lock, &time) != thrd_timedout) return 6;
  mtx_unlock(&lock);
  if (thrd_create(&threads[0], hold, 0) || thrd_join(threads[0], 0)) return 7;
  if (thrd_create(&threads[0], body, (void *)100) || thrd_detach(threads[0])) return 8;
  mtx_t recursive;
  mtx_init(&recursive, mtx_plain | mtx_recursive);
  if (mtx_trylock(&recursive) || mtx_trylock(&recursive) || mtx_unlock(&recursive)) return 9;
  if (thrd_create(&threads[0], try_it, &recursive) || thrd_join(threads[0], &result) || result != thrd_busy) return 10;
  if (mtx_unlock(&recursive)) return 11;
  if (thrd_create(&threads[0], try_it, &recursive) || thrd_join(threads[0], &result) || result) return 12;
  if (mtx_lock(&recursive) || mtx_unlock(&recursive)) return 13;
  tss_delete(key);
  puts("done");
  return 0;
}
"""


def test_threads_of_c11_are_fibers(weft, compile_c, tmp_path):
    stats = run_all(weft, tmp_path, compile_c("c11", C11, "-pthread"))
    assert stats["fibers"]["created"] == 105
    assert stats["parks"]["lock"] > 0 and stats["pins"] == []
