#pragma once

#include <cstddef>
#include <memory_resource>

namespace weft::engine::interpose::elf {

// Memory straight from mmap, for tables that are built while the loader's lock is held. The process's malloc
// may itself be a patched library: a call of it could park the fiber that holds that lock.
//
// Not thread-safe; meant below a pool resource, since it hands out whole pages.
class PageResource final : public std::pmr::memory_resource {
 private:
  void* do_allocate(std::size_t size, std::size_t alignment) override;
  void do_deallocate(void* block, std::size_t size, std::size_t alignment) override;
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }
};

}  // namespace weft::engine::interpose::elf
