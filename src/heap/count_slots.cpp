#include "heap/count_slots.hpp"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "fiber/sys.hpp"

namespace weft::heap {

namespace {

namespace sys = engine::sys;

constexpr uint32_t kChunk = 1024, kChunks = 1024;

// Mapped as needed, never unmapped: who looks at a slot holds nothing.
constinit std::atomic<CountSlot*> g_chunks[kChunks];
constinit std::atomic<uint32_t> g_given{0};  // slots 1 to this have been handed out once

// The slots that ended threads have left: a stack, linked by numbers (R. K. Treiber, "Systems Programming:
// Coping with Parallelism", 1986). Above the number stands a count of changes, since a slot that was popped
// and pushed again between a look and its exchange would otherwise bring back a stale `next_free`.
constinit std::atomic<uint64_t> g_free{0};

constinit CountSlot g_shared;
constinit pthread_key_t g_key{};
constinit thread_local bool t_ending = false;

CountSlot* slot_of(uint32_t number) noexcept {
  CountSlot* chunk = g_chunks[(number - 1) / kChunk].load(std::memory_order_acquire);
  return chunk ? chunk + (number - 1) % kChunk : nullptr;
}

void push(CountSlot& slot) noexcept {
  uint64_t top = g_free.load(std::memory_order_relaxed);
  uint64_t next;
  do {
    slot.next_free.store(static_cast<uint32_t>(top), std::memory_order_relaxed);
    next = ((top >> 32) + 1) << 32 | slot.number;
    // Release: the next owner adds to what this one has counted.
  } while (!g_free.compare_exchange_weak(top, next, std::memory_order_release, std::memory_order_relaxed));
}

CountSlot* pop() noexcept {
  uint64_t top = g_free.load(std::memory_order_acquire);
  for (;;) {
    const auto number = static_cast<uint32_t>(top);
    if (number == 0) return nullptr;
    CountSlot* slot = slot_of(number);
    const uint64_t next = ((top >> 32) + 1) << 32 | slot->next_free.load(std::memory_order_relaxed);
    if (g_free.compare_exchange_weak(top, next, std::memory_order_acquire)) return slot;
  }
}

CountSlot* make() noexcept {
  uint32_t given = g_given.load(std::memory_order_relaxed);
  do {
    if (given == kChunk * kChunks) return nullptr;
    std::atomic<CountSlot*>& place = g_chunks[given / kChunk];
    if (!place.load(std::memory_order_acquire)) {
      constexpr size_t kSize = kChunk * sizeof(CountSlot);
      const long memory =
          sys::call(SYS_mmap, nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory < 0) return nullptr;
      // Zeroes are a slot's first state.
      auto* chunk = reinterpret_cast<CountSlot*>(memory);
      CountSlot* none = nullptr;
      if (!place.compare_exchange_strong(none, chunk, std::memory_order_acq_rel))
        sys::call(SYS_munmap, memory, kSize);
    }
  } while (!g_given.compare_exchange_weak(given, given + 1, std::memory_order_relaxed));
  CountSlot* slot = slot_of(given + 1);
  slot->number = given + 1;
  return slot;
}

// At the thread's end. Destructors that run after this one may still allocate and free, and it would have to
// be called again, which libc does a few times only: they count by g_shared.
void leave(void* slot) noexcept {
  t_slot = nullptr;
  t_ending = true;
  push(*static_cast<CountSlot*>(slot));
}

}  // namespace

int prepare_slots() noexcept {
  return pthread_key_create(&g_key, &leave);
}

CountSlot* take_slot() noexcept {
  if (t_ending) return nullptr;
  CountSlot* slot = pop();
  if (!slot) slot = make();
  if (!slot) return nullptr;
  // First, since what follows may allocate, and come here again.
  t_slot = slot;
  const int error_number = errno;
  pthread_setspecific(g_key, slot);
  errno = error_number;
  return slot;
}

void add_shared(uint64_t made, uint64_t freed, int64_t bytes, int64_t mappings) noexcept {
  g_shared.made.fetch_add(made, std::memory_order_relaxed);
  g_shared.freed.fetch_add(freed, std::memory_order_relaxed);
  g_shared.bytes.fetch_add(bytes, std::memory_order_relaxed);
  g_shared.mappings.fetch_add(mappings, std::memory_order_relaxed);
}

HeapCounts sum_slots() noexcept {
  HeapCounts sum;
  const auto add = [&sum](const CountSlot& slot) {
    sum.bytes += slot.bytes.load(std::memory_order_relaxed);
    sum.mappings += slot.mappings.load(std::memory_order_relaxed);
    const uint64_t made = slot.made.load(std::memory_order_relaxed);
    sum.made += made;
    sum.blocks += static_cast<int64_t>(made - slot.freed.load(std::memory_order_relaxed));
  };
  add(g_shared);
  const uint32_t given = g_given.load(std::memory_order_relaxed);
  for (uint32_t number = 1; number <= given; ++number)
    if (const CountSlot* slot = slot_of(number)) add(*slot);
  return sum;
}

void reclaim_slots_after_fork() noexcept {
  g_free.store(0, std::memory_order_relaxed);
  const uint32_t given = g_given.load(std::memory_order_relaxed);
  for (uint32_t number = 1; number <= given; ++number) {
    CountSlot* slot = slot_of(number);
    if (!slot || slot == t_slot) continue;
    slot->number = number;  // whose owner may not have come to it
    push(*slot);
  }
}

}  // namespace weft::heap
