// Forking in tests whose child starts OS threads.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

namespace weft::test {

/// How often the calling process's other threads have been switched, if all of them sleep.
inline std::optional<std::string> switches_of_sleepers() {
  std::string counts;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task")) {
    if (thread.path().filename() == std::to_string(gettid())) continue;
    std::ifstream status(thread.path() / "status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("State:") && line.find('S', 6) == std::string::npos) return std::nullopt;
      if (line.find("ctxt_switches:") != std::string::npos) counts += line;
    }
  }
  return counts;
}

/// fork(), for a child that starts OS threads.
///
/// ThreadSanitizer knows less of forks than libc. Its allocator's locks stay taken in the child if another
/// thread has them just then: so all others must sleep. And it does not know that those are gone in the
/// child, where it ends the process when a new thread has the address of one ("dup thread with used id").
/// libc gives out their stacks anew; so the child asks for larger ones.
inline pid_t fork_with_threads() {
#ifdef __SANITIZE_THREAD__
  for (std::optional<std::string> now, before; !(now = switches_of_sleepers()) || now != before; before = now)
    sched_yield();
#endif
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
