#include "fiber/stack_pool.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <new>

#include "fiber/assert.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

namespace weft::engine {

namespace {

constexpr size_t kPage = 4096;

// Eight positions, two cache lines apart: enough to spread the sets, little enough to stay in the top page.
constexpr size_t kStaggers = 8, kStagger = 128;

// Free stacks of a size beyond this number give their memory back.
constexpr size_t kWarmStacks = 1024;

// Slabs this large keep the number of mappings small; the kernel merges neighbours besides.
constexpr size_t kSlabSize = size_t{256} << 20;

// This many sizes get stacks that fit; further ones share stacks of the next power of two.
constexpr size_t kFittingClasses = 16;

constexpr size_t round_to_pages(size_t size) noexcept {
  return (size + kPage - 1) & ~(kPage - 1);
}

size_t pitch_of(Stack stack) noexcept {
  return round_to_pages(stack.size()) + kPage;
}

}  // namespace

// A free stack that keeps its memory. Stands at the stack's top, in a page that was touched anyway.
struct StackPool::WarmStack {
  WarmStack* next;
  Stack stack;
};

// A free stack that keeps only its topmost page, where this notes others that keep nothing.
struct StackPool::ColdStacks {
  static constexpr size_t kCapacity = 190;
  ColdStacks* next;
  Stack home;
  size_t count;
  Stack others[kCapacity];
};

StackPool& StackPool::instance() noexcept {
  alignas(StackPool) static std::byte storage[sizeof(StackPool)];
  static StackPool* pool = new (storage) StackPool(probe_guard_kind());
  return *pool;
}

GuardKind StackPool::probe_guard_kind() noexcept {
  void* page = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return GuardKind::kProtect;
  const bool works = madvise(page, kPage, MADV_GUARD_INSTALL) == 0;
  munmap(page, kPage);
  return works ? GuardKind::kAdvice : GuardKind::kProtect;
}

StackPool::StackPool(GuardKind guard_kind) noexcept : guard_kind_(guard_kind) {
  void* table = mmap(nullptr, kSlabs * sizeof(Slab), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  WEFT_ASSERT(table != MAP_FAILED);
  slabs_ = static_cast<Slab*>(table);
}

StackPool::~StackPool() {
  for (size_t i = 0; i < slab_count_.load(std::memory_order_relaxed); ++i)
    munmap(slabs_[i].begin, static_cast<size_t>(slabs_[i].end - slabs_[i].begin));
  munmap(slabs_, kSlabs * sizeof(Slab));
}

Stack StackPool::allocate(size_t size) noexcept {
  const size_t wanted = std::max(size, kMinimumSize);
  if (wanted > SIZE_MAX / 4) {
    errno = ENOMEM;
    return {};
  }
  // The highest stagger still leaves `wanted` bytes.
  size_t pitch = round_to_pages(wanted + (kStaggers - 1) * kStagger) + kPage;

  Guard guard(lock_);
  SizeClass* size_class = class_for(pitch);
  if (size_class && size_class->warm) {
    const Stack stack = size_class->warm->stack;
    size_class->warm = size_class->warm->next;
    --size_class->warm_count;
    return stack;
  }
  if (size_class && size_class->cold) return take_cold(*size_class);
  if (!size_class || (size_class->carve == size_class->carve_end && !grow(*size_class)) ||
      !install_guard(size_class->carve)) {
    errno = ENOMEM;
    return {};
  }
  std::byte* slot = size_class->carve;
  size_class->carve += pitch;
  return {slot + kPage, slot + pitch - size_class->carved++ % kStaggers * kStagger};
}

void StackPool::release(Stack stack) noexcept {
#if defined(__SANITIZE_ADDRESS__)
  // A fiber that ends leaves the red zones of its last frames behind.
  __asan_unpoison_memory_region(stack.base, stack.size());
#endif
  const size_t pitch = pitch_of(stack);
  {
    Guard guard(lock_);
    SizeClass* size_class = class_of(pitch);
    WEFT_ASSERT(size_class);
    if (size_class->warm_count < kWarmStacks) {
      auto* link = reinterpret_cast<WarmStack*>(stack.top - sizeof(WarmStack));
      *link = {size_class->warm, stack};
      size_class->warm = link;
      ++size_class->warm_count;
      return;
    }
  }
  // Unlocked, since the kernel takes its time. The number of warm stacks may change meanwhile: it need not be
  // exact.
  madvise(stack.base, pitch - kPage, MADV_DONTNEED);
  Guard guard(lock_);
  put_cold(*class_of(pitch), stack);
}

void StackPool::put_cold(SizeClass& size_class, Stack stack) noexcept {
  static_assert(sizeof(ColdStacks) <= kPage - (kStaggers - 1) * kStagger);
  ColdStacks* cold = size_class.cold;
  if (cold && cold->count < ColdStacks::kCapacity) {
    cold->others[cold->count++] = stack;
    return;
  }
  auto* next = reinterpret_cast<ColdStacks*>(stack.top - sizeof(ColdStacks));
  next->next = cold;
  next->home = stack;
  next->count = 0;
  size_class.cold = next;
}

Stack StackPool::take_cold(SizeClass& size_class) noexcept {
  ColdStacks& cold = *size_class.cold;
  if (cold.count > 0) return cold.others[--cold.count];
  size_class.cold = cold.next;
  return cold.home;
}

bool StackPool::is_guard(const void* address) const noexcept {
  const auto* byte = static_cast<const std::byte*>(address);
  for (size_t i = 0, n = slab_count_.load(std::memory_order_acquire); i < n; ++i) {
    const Slab& slab = slabs_[i];
    if (byte >= slab.begin && byte < slab.end)
      return static_cast<size_t>(byte - slab.begin) % slab.pitch < kPage;
  }
  return false;
}

StackPool::SizeClass* StackPool::class_of(size_t pitch) noexcept {
  for (size_t i = 0; i < class_count_; ++i)
    if (classes_[i].pitch == pitch) return &classes_[i];
  // After a fork, stacks come back whose class was forgotten.
  if (class_count_ == kClasses) return nullptr;
  classes_[class_count_].pitch = pitch;
  return &classes_[class_count_++];
}

// The class for a new stack. May make `pitch` larger.
StackPool::SizeClass* StackPool::class_for(size_t& pitch) noexcept {
  for (size_t i = 0; i < class_count_; ++i)
    if (classes_[i].pitch == pitch) return &classes_[i];
  if (class_count_ >= kFittingClasses) pitch = std::bit_ceil(pitch);
  return class_of(pitch);
}

bool StackPool::grow(SizeClass& size_class) noexcept {
  const size_t index = slab_count_.load(std::memory_order_relaxed);
  if (index == kSlabs) return false;
  size_t stacks = std::max<size_t>(1, kSlabSize / size_class.pitch);
  void* memory;
  for (;; stacks /= 2) {  // under a limit on address space smaller slabs may still fit
    memory = mmap(nullptr, stacks * size_class.pitch, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (memory != MAP_FAILED) break;
    if (stacks == 1) return false;
  }
  madvise(memory, stacks * size_class.pitch, MADV_NOHUGEPAGE);
  size_class.carve = static_cast<std::byte*>(memory);
  size_class.carve_end = size_class.carve + stacks * size_class.pitch;
  slabs_[index] = {size_class.carve, size_class.carve_end, size_class.pitch};
  slab_count_.store(index + 1, std::memory_order_release);
  return true;
}

bool StackPool::install_guard(std::byte* page) noexcept {
  if (guard_kind_ == GuardKind::kAdvice) return madvise(page, kPage, MADV_GUARD_INSTALL) == 0;
  return mprotect(page, kPage, PROT_NONE) == 0;
}

void StackPool::reset_after_fork() noexcept {
  std::fill(std::begin(classes_), std::end(classes_), SizeClass{});
  class_count_ = 0;
}

}  // namespace weft::engine
