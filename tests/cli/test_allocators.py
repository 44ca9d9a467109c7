"""An allocator that takes the place of libc's is called by everyone, also by fibers that are about to switch."""

LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
/* As allocators do: one lock, and a cache for each thread that is not whole while the lock is waited for. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread int inside;
extern void *__libc_malloc(size_t);
extern void __libc_free(void *);
static void enter(void) {
  if (inside++) { write(2, "entered twice\n", 14); _exit(99); }
  pthread_mutex_lock(&lock);
}
static void leave(void) { pthread_mutex_unlock(&lock); --inside; }
void *malloc(size_t size) { enter(); void *memory = __libc_malloc(size); leave(); return memory; }
void free(void *memory) { enter(); __libc_free(memory); leave(); }
/* A thread of the library that holds the lock for most of the time. */
static void *hold(void *unused) {
  for (;;) {
    pthread_mutex_lock(&lock);
    nanosleep(&(struct timespec){0, 300000}, 0);
    pthread_mutex_unlock(&lock);
    nanosleep(&(struct timespec){0, 100000}, 0);
  }
  return unused;
}
void start_holder(void) { pthread_t thread; pthread_create(&thread, 0, hold, 0); }
"""

PROGRAM = """
import ctypes, threading, time
ctypes.CDLL({library!r}).start_holder()
def work():
    for _ in range(3):
        time.sleep(0.001)
        str(bytes(2000))
for _ in range(5):
    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print("done")
"""


def test_fibers_do_not_switch_inside_an_allocator(weft, python, compile_c):
    library = str(compile_c("liballocator.so", LIBRARY, "-shared", "-fPIC", "-pthread", "-fno-builtin"))
    done = weft("run", python, "-c", PROGRAM.format(library=library), env={"LD_PRELOAD": library})
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
