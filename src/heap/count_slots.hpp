// Where the threads count.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "weft/detail/heap_count.hpp"

namespace weft::heap {

using detail::HeapCounts;

/// The counters that one OS thread at a time adds to, on a cache line of their own. They stay when the thread
/// ends, and the next thread that takes the slot goes on from there: what is asked for is the sum of all.
struct alignas(64) CountSlot {
  // The owner alone writes, so that no locked instruction is needed. Relaxed: whoever asks for counts of
  // calls that have returned has heard of it by other means.
  template <typename Number>
  static void bump(std::atomic<Number>& counter, Number more) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
  }

  std::atomic<uint64_t> made{0}, freed{0};  // blocks
  std::atomic<int64_t> bytes{0}, mappings{0};
  std::atomic<uint32_t> next_free{0};  // number of a slot; 0: none
  uint32_t number = 0;                 // from 1 on

  // Of the sampling, the owner's alone; see profile_sample.hpp.
  uint32_t session = 0;
  int64_t bytes_until_sample = 0;
  uint64_t random = 0;
};
static_assert(sizeof(CountSlot) == 64);

/// The calling OS thread's, or null: see take_slot().
inline constinit thread_local CountSlot* t_slot = nullptr;

/// Before the first take_slot(). Returns 0 or an errno.
int prepare_slots() noexcept;

/// Sets t_slot, until the thread ends. Null: no memory is left, or the thread is just ending; it counts by
/// add_shared(). Keeps errno.
CountSlot* take_slot() noexcept;

/// Adds to counters that all threads share.
void add_shared(uint64_t made, uint64_t freed, int64_t bytes, int64_t mappings) noexcept;

/// The sum of all slots. Any thread; async-signal-safe.
HeapCounts sum_slots() noexcept;

/// In a fork child: the slots of the threads that it does not have can be taken again.
void reclaim_slots_after_fork() noexcept;

}  // namespace weft::heap
