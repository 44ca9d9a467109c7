#include "fiber/stack_pool.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <new>

#include "fiber/assert.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

namespace weft {

namespace {

constexpr size_t kPage = 4096;

// Free stacks beyond this number give their memory back.
constexpr size_t kWarmStacks = 4096;

// Slabs this large keep the number of mappings small; the kernel merges neighbours besides.
constexpr size_t kSlabSize = size_t{256} << 20;

GuardKind probe_guard_kind() noexcept {
  void* page = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return GuardKind::kProtect;
  const bool works = madvise(page, kPage, MADV_GUARD_INSTALL) == 0;
  munmap(page, kPage);
  return works ? GuardKind::kAdvice : GuardKind::kProtect;
}

}  // namespace

// Stands at the top of a free stack, whose topmost page was touched anyway.
struct StackPool::FreeStack {
  FreeStack* next;
  Stack stack;
};

StackPool& StackPool::instance() noexcept {
  alignas(StackPool) static std::byte storage[sizeof(StackPool)];
  static StackPool* pool = new (storage) StackPool;
  return *pool;
}

StackPool::StackPool() noexcept : guard_kind_(probe_guard_kind()) {
  void* table = mmap(nullptr, kSlabs * sizeof(Slab), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  WEFT_ASSERT(table != MAP_FAILED);
  slabs_ = static_cast<Slab*>(table);
}

Stack StackPool::allocate(size_t size) noexcept {
  const size_t usable = std::max(size, kMinimumSize);
  if (usable > SIZE_MAX / 2) {
    errno = ENOMEM;
    return {};
  }
  const size_t pitch = ((usable + kPage - 1) & ~(kPage - 1)) + kPage;

  Guard guard(lock_);
  SizeClass* size_class = class_for(pitch);
  if (size_class && size_class->free) {
    const Stack stack = size_class->free->stack;
    size_class->free = size_class->free->next;
    --size_class->free_count;
    return stack;
  }
  if (!size_class || (size_class->carve == size_class->carve_end && !grow(*size_class)) ||
      !install_guard(size_class->carve)) {
    errno = ENOMEM;
    return {};
  }
  std::byte* slot = size_class->carve;
  size_class->carve += pitch;
  // Eight positions, two cache lines apart: enough to spread the sets, little enough to stay in the top page.
  const size_t stagger = (size_class->carved++ % 8) * 128;
  return {slot + kPage, slot + pitch - stagger};
}

void StackPool::release(Stack stack) noexcept {
#if defined(__SANITIZE_ADDRESS__)
  // A fiber that ends leaves the red zones of its last frames behind.
  __asan_unpoison_memory_region(stack.base, stack.size());
#endif
  const size_t pitch = ((stack.size() + kPage - 1) & ~(kPage - 1)) + kPage;
  Guard guard(lock_);
  SizeClass* size_class = class_for(pitch);
  WEFT_ASSERT(size_class);
  if (size_class->free_count >= kWarmStacks) {
    // The top page stays: the list's link is there.
    auto* top_page = reinterpret_cast<std::byte*>(reinterpret_cast<uintptr_t>(stack.top - 1) & ~(kPage - 1));
    if (top_page > stack.base) madvise(stack.base, static_cast<size_t>(top_page - stack.base), MADV_DONTNEED);
  }
  auto* link = reinterpret_cast<FreeStack*>(stack.top - sizeof(FreeStack));
  *link = {size_class->free, stack};
  size_class->free = link;
  ++size_class->free_count;
}

bool StackPool::is_guard(const void* address) const noexcept {
  const auto* byte = static_cast<const std::byte*>(address);
  const size_t count = std::atomic_ref(const_cast<size_t&>(slab_count_)).load(std::memory_order_acquire);
  for (size_t i = 0; i < count; ++i) {
    const Slab& slab = slabs_[i];
    if (byte >= slab.begin && byte < slab.end) return static_cast<size_t>(byte - slab.begin) % slab.pitch < kPage;
  }
  return false;
}

StackPool::SizeClass* StackPool::class_for(size_t pitch) noexcept {
  for (size_t i = 0; i < class_count_; ++i)
    if (classes_[i].pitch == pitch) return &classes_[i];
  if (class_count_ == kClasses) return nullptr;
  classes_[class_count_].pitch = pitch;
  return &classes_[class_count_++];
}

bool StackPool::grow(SizeClass& size_class) noexcept {
  if (slab_count_ == kSlabs) return false;
  const size_t stacks = std::max<size_t>(1, kSlabSize / size_class.pitch);
  const size_t size = stacks * size_class.pitch;
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) return false;
  madvise(memory, size, MADV_NOHUGEPAGE);
  size_class.carve = static_cast<std::byte*>(memory);
  size_class.carve_end = size_class.carve + size;
  slabs_[slab_count_] = {size_class.carve, size_class.carve_end, size_class.pitch};
  std::atomic_ref(slab_count_).store(slab_count_ + 1, std::memory_order_release);
  return true;
}

bool StackPool::install_guard(std::byte* page) noexcept {
  if (guard_kind_ == GuardKind::kAdvice) return madvise(page, kPage, MADV_GUARD_INSTALL) == 0;
  return mprotect(page, kPage, PROT_NONE) == 0;
}

}  // namespace weft
