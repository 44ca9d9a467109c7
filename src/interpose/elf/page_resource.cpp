#include "interpose/elf/page_resource.hpp"

#include <sys/mman.h>

#include <new>

#include "fiber/sys.hpp"

namespace weft::engine::interpose::elf {

namespace {

// Not libc's, by whose slot a patcher that reaches all objects may have routed them.
#ifdef __SANITIZE_THREAD__
// It must see that what is mapped is new.
void* map(std::size_t size) noexcept {
  return mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
void unmap(void* block, std::size_t size) noexcept {
  munmap(block, size);
}
#else
void* map(std::size_t size) noexcept {
  const long block =
      sys::call(SYS_mmap, nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return block < 0 ? MAP_FAILED : reinterpret_cast<void*>(block);
}
void unmap(void* block, std::size_t size) noexcept {
  sys::call(SYS_munmap, block, size);
}
#endif

}  // namespace

void* PageResource::do_allocate(std::size_t size, std::size_t) {
  void* block = map(size);
  if (block == MAP_FAILED) throw std::bad_alloc();
  return block;
}

void PageResource::do_deallocate(void* block, std::size_t size, std::size_t) {
  unmap(block, size);
}

}  // namespace weft::engine::interpose::elf
