#include "process/output.hpp"

#include <algorithm>
#include <cstring>
#include <new>

namespace weft::process {

using engine::FutexLock;
using engine::Guard;

void Output::copy_out(uint64_t from, char* buffer, size_t size) const noexcept {
  if (size == 0) return;
  const size_t at = from % capacity_;
  const size_t straight = std::min(size, capacity_ - at);
  memcpy(buffer, ring_.get() + at, straight);
  memcpy(buffer + straight, ring_.get(), size - straight);
}

void Output::grow(size_t wanted) noexcept {
  size_t capacity = std::max(capacity_, kLeast);
  while (capacity < wanted && capacity < limit_) capacity *= 2;
  capacity = std::min(capacity, limit_);
  if (capacity <= capacity_) return;
  std::unique_ptr<char[]> ring(new (std::nothrow) char[capacity]);
  if (!ring) return;
  // Each byte lies at its place in the stream, modulo the capacity.
  for (uint64_t at = first_; at < end_;) {
    const size_t size = static_cast<size_t>(std::min<uint64_t>(end_ - at, capacity - at % capacity));
    copy_out(at, ring.get() + at % capacity, size);
    at += size;
  }
  ring_ = std::move(ring);
  capacity_ = capacity;
}

void Output::append(const char* data, size_t size) noexcept {
  Guard guard(lock_);
  if (const size_t wanted = static_cast<size_t>(end_ - first_) + size; wanted > capacity_) grow(wanted);
  if (capacity_ == 0) {  // no memory at all: only counted
    end_ += size;
    first_ = end_;
    return;
  }
  if (size > capacity_) {
    end_ += size - capacity_;
    data += size - capacity_;
    size = capacity_;
  }
  const size_t at = end_ % capacity_;
  const size_t straight = std::min(size, capacity_ - at);
  memcpy(ring_.get() + at, data, straight);
  memcpy(ring_.get(), data + straight, size - straight);
  end_ += size;
  if (end_ - first_ > capacity_) first_ = end_ - capacity_;
}

void Output::finish() noexcept {
  Guard guard(lock_);
  finished_ = true;
}

size_t Output::read(uint64_t& position, char* buffer, size_t size, bool& ended) const noexcept {
  Guard guard(lock_);
  position = std::clamp(position, first_, end_);
  size = std::min<uint64_t>(size, end_ - position);
  copy_out(position, buffer, size);
  position += size;
  ended = finished_ && position == end_;
  return size;
}

uint64_t Output::end(uint64_t& first) const noexcept {
  Guard guard(lock_);
  first = first_;
  return end_;
}

}  // namespace weft::process
