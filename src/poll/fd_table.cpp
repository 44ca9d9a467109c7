#include "poll/fd_table.hpp"

#include <sys/mman.h>

#include "fiber/sys.hpp"

namespace weft::engine {

constinit std::atomic<FdEntry*> FdTable::chunks_[kChunks];
constinit std::atomic<int> FdTable::process_{0};

namespace {

int process_id() noexcept {
  return static_cast<int>(sys::call(SYS_getpid));
}

}  // namespace

FdEntry* FdTable::make_chunk(int index) noexcept {
  const size_t size = kChunkSize * sizeof(FdEntry);
  const long memory = sys::call(SYS_mmap, nullptr, size, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory < 0 && memory > -4096) return nullptr;
  process_.store(process_id(), std::memory_order_relaxed);
  auto* made = reinterpret_cast<FdEntry*>(memory);
  FdEntry* present = nullptr;
  if (chunks_[index].compare_exchange_strong(present, made, std::memory_order_acq_rel)) return made;
  sys::call(SYS_munmap, memory, size);
  return present;
}

void FdTable::reset_after_fork() noexcept {
  for (auto& slot : chunks_)
    if (FdEntry* chunk = slot.load(std::memory_order_relaxed))
      sys::call(SYS_madvise, chunk, kChunkSize * sizeof(FdEntry), MADV_DONTNEED);
  process_.store(process_id(), std::memory_order_relaxed);
}

bool FdTable::inherited() noexcept {
  const int process = process_.load(std::memory_order_relaxed);
  return process != 0 && process != process_id();
}

}  // namespace weft::engine
