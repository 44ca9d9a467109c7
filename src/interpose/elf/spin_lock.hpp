#pragma once

#include <sched.h>

#include <atomic>

namespace weft::engine::interpose::elf {

// A lock that calls nothing which Weft routes. For short sections that never park: a fiber that parked while
// holding it would leave its carrier spinning.
class SpinLock {
 public:
  void lock() noexcept {
    while (taken_.exchange(true, std::memory_order_acquire)) {
      // The holder may be an OS thread that lost its core.
      while (taken_.load(std::memory_order_relaxed)) sched_yield();
    }
  }
  void unlock() noexcept { taken_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> taken_{false};
};

}  // namespace weft::engine::interpose::elf
