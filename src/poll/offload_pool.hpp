// OffloadPool: OS threads that make the calls which can only block.
#pragma once

#include <utility>

#include "fiber/carrier.hpp"

namespace weft {

/// Grows with demand, up to a limit, and shrinks when idle. Its threads block all signals.
class OffloadPool {
 public:
  static OffloadPool& instance() noexcept;

  /// Runs work() on a pool thread while the calling fiber is parked, uninterruptibly; `errno` as work() left it is the
  /// caller's afterwards. On a thread that runs no fiber, or may not switch now, or when no pool thread can be had, work()
  /// runs right here. work() must not throw, switch, or use thread-local state of the caller.
  template <typename Work>
  void run(const char* call, Work&& work) noexcept {
    run_erased(call, [](void* self) noexcept { (*static_cast<std::remove_reference_t<Work>*>(self))(); }, &work);
  }

  int threads() const noexcept;
  int peak_threads() const noexcept;
  void reset_after_fork() noexcept;

 private:
  void run_erased(const char* call, void (*work)(void*) noexcept, void* argument) noexcept;
};

}  // namespace weft
