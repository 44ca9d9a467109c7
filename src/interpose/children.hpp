// Waiting for children to change state, where the kernel offers no descriptor for it.
#pragma once

#include <sys/wait.h>

#include <cstdint>

namespace weft::engine::interpose {

/// Which children, and which changes of theirs: the arguments of waitid.
struct ChildSelection {
  idtype_t type;
  id_t id;
  int options;
  bool operator==(const ChildSelection&) const = default;
};

/// A fiber's interest in the changes of some children. Interests in the same ones share a thread, which waits
/// in the kernel without reaping; it ends with the first change, or when there is no such child left. A fiber
/// that gives up leaves it behind for the next.
class ChildWatch {
 public:
  explicit ChildWatch(const ChildSelection& who) noexcept;
  ChildWatch(const ChildWatch&) = delete;
  ChildWatch& operator=(const ChildWatch&) = delete;

  /// Parks until something has changed since the watch was made: a hint. Returns 0, or the errno that the
  /// wait ends with.
  int wait(const char* call) noexcept;

  /// Joins the threads whose watch is over. Whoever destroys a carrier calls it first: one of them may still
  /// be about to wake a fiber of it.
  static void join_ended() noexcept;

 private:
  struct Watcher;
  static void* watch(void* self) noexcept;
  static void join(Watcher& watcher) noexcept;
  static Watcher* find_or_start(const ChildSelection& who) noexcept;

  static Watcher watchers_[];
  Watcher* watcher_ = nullptr;
  uint32_t seen_ = 0;
};

}  // namespace weft::engine::interpose
