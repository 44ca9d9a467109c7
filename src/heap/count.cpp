#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <new>

#include "fiber/futex_lock.hpp"
#include "heap/count_calls.hpp"
#include "heap/count_slots.hpp"
#include "heap/profile.hpp"
#include "interpose/elf/patcher.hpp"
#include "interpose/loading.hpp"
#include "weft/detail/heap_count.hpp"

namespace weft::heap {

namespace {

using engine::FutexLock;
using engine::Guard;
using engine::interpose::elf::Patcher;
using engine::interpose::elf::Reach;

// Never called with it held: anything that allocates by a slot, but for what a patcher does.
constinit FutexLock g_lock;
constinit int g_holds = 0;                           // guarded by g_lock
constinit std::atomic<Patcher*> g_patcher{nullptr};  // made once, never destroyed

void look_for_new_objects() noexcept try {
  if (Patcher* patcher = g_patcher.load(std::memory_order_acquire)) patcher->rescan();
} catch (const std::bad_alloc&) {
  // Next time they still are new.
}

// Once. REQUIRES: g_lock held, g_patcher made.
int follow_forks() noexcept {
  static constinit bool followed = false;
  if (followed) return 0;
  const int error = pthread_atfork(
      [] {
        lock_profile();
        g_lock.lock();
        g_patcher.load(std::memory_order_relaxed)->before_fork();
      },
      [] {
        g_patcher.load(std::memory_order_relaxed)->after_fork();
        g_lock.unlock();
        unlock_profile();
      },
      [] {
        g_patcher.load(std::memory_order_relaxed)->after_fork();
        g_lock.unlock();
        unlock_profile();
        reclaim_slots_after_fork();
      });
  followed = error == 0;
  return error;
}

// Makes the patcher, and what never changes after. REQUIRES: g_lock held.
int prepare() {
  if (g_patcher.load(std::memory_order_relaxed)) return follow_forks();
  if (const int error = find_real_calls()) return error;
  static constinit bool slots_prepared = false;
  if (!slots_prepared) {
    if (const int error = prepare_slots()) return error;
    slots_prepared = true;
  }
  alignas(Patcher) static std::byte storage[sizeof(Patcher)];
  g_patcher.store(new (storage) Patcher(count_routes(), {}, Reach::kWhole), std::memory_order_release);
  engine::interpose::set_load_observer(&look_for_new_objects);
  return follow_forks();
}

}  // namespace

}  // namespace weft::heap

namespace weft::detail {

using namespace heap;

int heap_count_begin() noexcept try {
  Guard guard(g_lock);
  if (g_holds == 0) {
    if (const int error = prepare()) return error;
    if (!t_slot) take_slot();
    Patcher& patcher = *g_patcher.load(std::memory_order_relaxed);
    if (counted_elsewhere()) return ENOTSUP;
    try {
      if (patcher.patch().failed > 0) {
        patcher.restore();
        return ENOTSUP;
      }
    } catch (const std::bad_alloc&) {
      patcher.restore();
      throw;
    }
  }
  ++g_holds;
  return 0;
} catch (const std::bad_alloc&) {
  return ENOMEM;
}

void heap_count_end() noexcept {
  Guard guard(g_lock);
  if (g_holds == 0 || --g_holds > 0) return;
  try {
    g_patcher.load(std::memory_order_relaxed)->restore();
  } catch (const std::bad_alloc&) {
    // It had no memory for its report on slots that others have written to since.
  }
}

HeapCounts heap_counts() noexcept {
  look_for_new_objects();
  return sum_slots();
}

}  // namespace weft::detail
