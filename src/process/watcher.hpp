// Watcher: the OS thread that reads what commands write and what their keepers tell.
#pragma once

#include <cstdint>

namespace weft::process {

/// A descriptor that the watcher reads.
class Source {
 public:
  /// Called on the watcher's thread when `fd` is readable or at its end. False: it is done with, and must not
  /// be touched by the watcher any more.
  virtual bool ready() noexcept = 0;
  int fd = -1;

 protected:
  ~Source() = default;
};

/// An OS thread, since a program whose fibers compute, or that has none, must not stop its children by
/// leaving their pipes full. It ends when there is nothing to watch, and begins again.
class Watcher {
 public:
  /// Watches `source` until its ready() returns false, which may be before this returns. Returns 0 or an
  /// errno, and does nothing then. Any thread.
  static int add(Source& source) noexcept;
};

}  // namespace weft::process
