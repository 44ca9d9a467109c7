// Forking in tests whose child starts OS threads.
#pragma once

#include <pthread.h>
#include <unistd.h>

namespace weft::test {

/// fork(), for a child that starts OS threads. ThreadSanitizer does not know that the parent's other threads
/// are gone there, and ends a process in which a new thread has the address of one that it knows ("dup thread
/// with used id"). libc gives out their stacks anew; so the child asks for larger ones.
inline pid_t fork_with_threads() {
  const pid_t child = fork();
#ifdef __SANITIZE_THREAD__
  if (child == 0) {
    pthread_attr_t attributes;
    size_t size = 0;
    pthread_getattr_default_np(&attributes);
    pthread_attr_getstacksize(&attributes, &size);
    pthread_attr_setstacksize(&attributes, 2 * size);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
  }
#endif
  return child;
}

}  // namespace weft::test
