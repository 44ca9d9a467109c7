#include "interpose/elf/page_resource.hpp"

#include <sys/mman.h>

#include <new>

namespace weft::engine::interpose::elf {

void* PageResource::do_allocate(std::size_t size, std::size_t) {
  void* block = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) throw std::bad_alloc();
  return block;
}

void PageResource::do_deallocate(void* block, std::size_t size, std::size_t) {
  munmap(block, size);
}

}  // namespace weft::engine::interpose::elf
