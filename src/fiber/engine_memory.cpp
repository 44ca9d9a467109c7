#include "fiber/engine_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "fiber/futex_lock.hpp"

namespace weft::engine {

namespace {

struct Free {
  Free* next;
};

// Blocks of each power of two from kSmallest on, cut from chunks.
constexpr size_t kSmallest = 64, kClasses = 16, kChunk = size_t{64} << 10;

struct SizeClass {
  FutexLock lock;
  Free* free = nullptr;
  std::byte* chunk = nullptr;
  size_t left = 0;
};
constinit SizeClass g_classes[kClasses];

size_t class_size(size_t size) noexcept {
  return std::bit_ceil(std::max(size, kSmallest));
}

SizeClass* class_of(size_t size) noexcept {
  const auto index = static_cast<size_t>(std::countr_zero(class_size(size)) - std::countr_zero(kSmallest));
  return index < kClasses ? &g_classes[index] : nullptr;
}

}  // namespace

void* engine_allocate(size_t size) noexcept {
  SizeClass* blocks = class_of(size);
  if (!blocks) return nullptr;
  Guard guard(blocks->lock);
  if (Free* block = blocks->free) {
    blocks->free = block->next;
    return memset(block, 0, size);
  }
  const size_t block_size = class_size(size);
  if (blocks->left < block_size) {
    const size_t chunk_size = std::max(kChunk, block_size);
    void* chunk = mmap(nullptr, chunk_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (chunk == MAP_FAILED) return nullptr;
    blocks->chunk = static_cast<std::byte*>(chunk);
    blocks->left = chunk_size;
  }
  void* block = blocks->chunk;
  blocks->chunk += block_size;
  blocks->left -= block_size;
  return block;
}

void engine_free(void* memory, size_t size) noexcept {
  if (!memory) return;
  SizeClass& blocks = *class_of(size);
  Guard guard(blocks.lock);
  auto* block = static_cast<Free*>(memory);
  block->next = blocks.free;
  blocks.free = block;
}

}  // namespace weft::engine
