// The actors that share a pool's messages.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fiber/futex_lock.hpp"
#include "weft/mailbox.hpp"
#include "weft/supervision.hpp"

namespace weft::detail {

class ActorCore;

/// Any thread. Does not own its members: each takes itself out before its end.
class Pool {
 public:
  Pool(Routing routing, uint32_t seed) noexcept : routing_(routing), chance_(seed | 1) {}
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// False: no memory.
  bool add(ActorCore& member) noexcept;
  void remove(ActorCore& member) noexcept;
  /// One that lives and was not asked to stop, with a reference, or null.
  ActorCore* pick() noexcept;
  ActorCore* pick(uint64_t key) noexcept;
  /// The sums of all that it ever had.
  ActorStatistics statistics() noexcept;
  void for_each(void (*visit)(void* argument, ActorCore& member), void* argument) noexcept;

 private:
  const Routing routing_;
  engine::FutexLock lock_;
  // lock_ guards these.
  ActorCore** members_ = nullptr;
  size_t count_ = 0, room_ = 0;
  size_t next_ = 0;
  uint32_t chance_;
  ActorStatistics gone_{};  // of those that are not members any more
};

}  // namespace weft::detail
