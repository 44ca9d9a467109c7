// The stacks that fibers run on.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "fiber/futex_lock.hpp"

namespace weft::engine {

/// A stack: usable memory [base, top), growing down from top, with a guard page below base.
struct Stack {
  std::byte* base = nullptr;
  std::byte* top = nullptr;

  size_t size() const noexcept { return static_cast<size_t>(top - base); }
  explicit operator bool() const noexcept { return base != nullptr; }
};

/// What lies below a stack to catch its overflow.
enum class GuardKind : uint8_t {
  kAdvice,   ///< MADV_GUARD_INSTALL (Linux 6.13): costs no mapping
  kProtect,  ///< mprotect: splits the mapping, so that vm.max_map_count bounds the number of stacks
};

/// Hands out large, lazily filled stacks and takes them back for reuse. Thread-safe.
///
/// Stacks are carved from big MAP_NORESERVE slabs. The memory that a stack has touched stays with it while
/// few stacks are free, and goes back to the kernel otherwise. Huge pages are off for them: with them, a
/// stack of 8 MiB was seen to occupy 2 MiB once touched. Tops are staggered by some cache lines, since
/// equally aligned stacks compete for the same cache sets: switching among cold fibers was measured twice as
/// fast.
class StackPool {
 public:
  static constexpr size_t kDefaultSize = 1024 * 1024;
  static constexpr size_t kMinimumSize = 16 * 1024;

  /// The process's pool, made at first use and never destroyed: fibers may outlive static destructors.
  static StackPool& instance() noexcept;

  /// A pool of its own, with guards of that kind; its memory goes with it. REQUIRES: the kernel knows them.
  explicit StackPool(GuardKind guard_kind) noexcept;
  ~StackPool();
  StackPool(const StackPool&) = delete;
  StackPool& operator=(const StackPool&) = delete;

  /// What the kernel offers.
  static GuardKind probe_guard_kind() noexcept;

  /// A stack of at least `size` usable bytes, or none with errno = ENOMEM (memory, or with
  /// GuardKind::kProtect the limit vm.max_map_count). Never blocks for long, never throws.
  Stack allocate(size_t size) noexcept;

  /// REQUIRES: nothing runs on `stack` any more.
  void release(Stack stack) noexcept;

  /// True if `address` lies in a guard page of this pool: a fault there is a stack overflow.
  /// Async-signal-safe.
  bool is_guard(const void* address) const noexcept;

  /// The pool's own limit is reached: only stacks that were released can be had. It lies beyond what memory
  /// allows, unless stacks are huge. Any thread.
  bool full() const noexcept { return slab_count_.load(std::memory_order_relaxed) == kSlabs; }

  GuardKind guard_kind() const noexcept { return guard_kind_; }

  /// In a fork child: forgets all free stacks, since another thread may have been about to change what is
  /// known of them.
  void reset_after_fork() noexcept;

 private:
  struct WarmStack;
  struct ColdStacks;
  struct SizeClass {
    size_t pitch = 0;  // a stack and its guard
    std::byte* carve = nullptr;
    std::byte* carve_end = nullptr;
    size_t carved = 0;
    WarmStack* warm = nullptr;  // free, most recently used first
    size_t warm_count = 0;
    ColdStacks* cold = nullptr;  // free, without memory
  };
  struct Slab {
    std::byte* begin;
    std::byte* end;
    size_t pitch;
  };

  SizeClass* class_of(size_t pitch) noexcept;
  SizeClass* class_for(size_t& pitch) noexcept;
  bool grow(SizeClass& size_class) noexcept;
  bool install_guard(std::byte* page) noexcept;
  static Stack take_cold(SizeClass& size_class) noexcept;
  static void put_cold(SizeClass& size_class, Stack stack) noexcept;

  static constexpr size_t kClasses = 64, kSlabs = 4096;

  const GuardKind guard_kind_;
  FutexLock lock_;
  // lock_ guards all below. slabs_ is also read by is_guard(), as far as slab_count_.
  SizeClass classes_[kClasses];
  size_t class_count_ = 0;
  Slab* slabs_;
  std::atomic<size_t> slab_count_{0};
};

}  // namespace weft::engine
