// patch(): making blocking C libraries cooperative, inside fibers.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "weft/error.hpp"

namespace weft {

/// Groups of libc's calls. docs/reference/blocking-calls.md lists them.
enum class Family : std::uint32_t {
  kSockets = 1,    ///< recv, send, accept, connect and kin
  kPolling = 2,    ///< poll, select, epoll_wait
  kSleeping = 4,   ///< nanosleep, sched_yield
  kLocks = 8,      ///< semaphores, mutexes, conditions, futexes
  kThreads = 16,   ///< pthread_create: see PatchOptions::threads
  kNames = 32,     ///< getaddrinfo and kin
  kFiles = 64,     ///< read, write, open, fsync
  kChildren = 128  ///< waitpid, system, popen
};

struct PatchOptions {
  /// Only these; empty: all.
  std::vector<Family> only = {};
  std::vector<Family> exclude = {};
  /// Libraries whose calls are left alone: patterns as for a shell, of their file names ("libgrpc*").
  std::vector<std::string> exclude_libraries = {};
  /// Which threads that are created from now on become fibers.
  enum class Threads : std::uint8_t { kNone, kPython, kAll };
  Threads threads = Threads::kNone;
};

namespace detail {

struct RawPatchOptions {
  std::uint32_t families;
  const char* const* libraries;
  std::size_t library_count;
  int threads;
};
WEFT_API int patch(const RawPatchOptions& options, std::uint64_t* id) noexcept;
/// ETIMEDOUT: fibers that stand for threads are alive still at `deadline`. EINTR: a signal came, and the
/// caller said Interruptible. In both cases it stays as it is.
WEFT_API int unpatch(std::uint64_t id, Nanos deadline) noexcept;
/// How many patches are in force.
WEFT_API int patches() noexcept;
/// Is anything routed, by these patches, by `weft run`, or for fibers of an interpreter?
WEFT_API bool routed() noexcept;
/// Does the process run under `weft run`?
WEFT_API bool runs_under_weft() noexcept;
/// Calls visit(argument, id, name) for each fiber that stands for a thread.
WEFT_API void visit_thread_fibers(void (*visit)(void* argument, std::uint64_t id, const char* name),
                                  void* argument) noexcept;

inline std::uint32_t families_of(const PatchOptions& options) noexcept {
  std::uint32_t families = options.only.empty() ? 255 : 0;
  for (Family family : options.only) families |= static_cast<std::uint32_t>(family);
  for (Family family : options.exclude) families &= ~static_cast<std::uint32_t>(family);
  return families;
}

}  // namespace detail

/// While it lives, blocking calls of libc that are made in fibers park the fiber: calls of the program and of
/// its libraries, also of those that are loaded later. What other threads do is as ever. Nests: what the
/// newest says counts alone. Whatever is excluded, what only wakes others (sem_post, close) is routed: see
/// the guide.
///
/// REQUIRES, in C++: fibers of different carriers may run the library's code at the same time; a library that
/// is not made for threads is to be used by fibers of one carrier. Libraries that keep state in thread_local
/// variables across a blocking call see the carrier's. Any thread.
class Patch {
 public:
  explicit Patch(const PatchOptions& options = {}) {
    std::vector<const char*> libraries;
    for (const std::string& library : options.exclude_libraries) libraries.push_back(library.c_str());
    const int error = detail::patch(
        {detail::families_of(options), libraries.data(), libraries.size(), static_cast<int>(options.threads)},
        &id_);
    if (error) detail::throw_errno(error, "weft::Patch: the calls cannot be routed");
  }
  /// Waits, as unpatch() without a limit, if it is the last.
  ~Patch() {
    if (id_) detail::unpatch(id_, detail::kNever);
  }
  Patch(const Patch&) = delete;
  Patch& operator=(const Patch&) = delete;

  /// Takes it back before its end. The last one waits until every thread that became a fiber has ended;
  /// Timeout if that takes longer than `limit`, and nothing has changed then.
  template <typename Rep, typename Period>
  void unpatch(std::chrono::duration<Rep, Period> limit) {
    if (!id_) return;
    if (const int error = detail::unpatch(id_, detail::deadline_after(limit))) {
      if (error == ETIMEDOUT) throw Timeout("weft::Patch::unpatch: threads that became fibers run still");
      detail::throw_errno(error, "weft::Patch::unpatch");
    }
    id_ = 0;
  }

 private:
  std::uint64_t id_ = 0;
};

}  // namespace weft
