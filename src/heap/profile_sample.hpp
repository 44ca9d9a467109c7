// What malloc() and free() do while allocations are sampled.
#pragma once

#include <atomic>
#include <cstdint>

#include "heap/count_slots.hpp"
#include "heap/profile_table.hpp"

namespace weft::heap {

/// Which sampling is going on: 0: none, else a number that none before it had.
inline constinit std::atomic<uint32_t> g_session{0};

/// How many sampled blocks have an address with that hash; 255: many. A free() looks there first, and in most
/// cases learns that it has nothing to do.
inline constinit std::atomic<uint8_t> g_sampled[size_t{1} << 14]{};

inline std::atomic<uint8_t>& sampled_near(const void* block) noexcept {
  return g_sampled[(reinterpret_cast<uintptr_t>(block) >> 4) * 0x9e3779b97f4a7c15 >> 50];
}

/// Whether sample() is to be called for a block that was just made. REQUIRES: `slot` is the caller's.
[[gnu::always_inline]] inline bool is_sample(CountSlot& slot, int64_t bytes) noexcept {
  const uint32_t session = g_session.load(std::memory_order_relaxed);
  return session != 0 && (slot.session != session || (slot.bytes_until_sample -= bytes) < 0);
}

/// Samples the block, unless it turns out not to be one. `caller`: where the call of malloc() returns to.
/// Returns the block. Keeps errno.
void* sample(CountSlot& slot, void* block, int64_t bytes, const void* caller) noexcept;

/// Whether a block that is to be freed may have been sampled.
[[gnu::always_inline]] inline bool may_be_sampled(const void* block) noexcept {
  return g_session.load(std::memory_order_relaxed) != 0 &&
         sampled_near(block).load(std::memory_order_relaxed) != 0;
}

/// Before the block is freed. False: it was not sampled.
bool forget_sample(void* block, LiveBlock& sampled) noexcept;
/// It was not freed after all.
void remember_sample(const LiveBlock& sampled) noexcept;

}  // namespace weft::heap
