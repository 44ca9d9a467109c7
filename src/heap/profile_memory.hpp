// Tables that grow, in memory of their own.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "fiber/sys.hpp"

namespace weft::heap {

/// An array of plain values in whole pages straight from the kernel, since it grows within malloc(). Zeroed
/// where it has not been written to.
template <typename Value>
class Pages {
 public:
  constexpr Pages() noexcept = default;
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() { clear(); }

  Value* data() noexcept { return data_; }
  const Value* data() const noexcept { return data_; }
  size_t size() const noexcept { return size_; }
  Value& operator[](size_t index) noexcept { return data_[index]; }
  const Value& operator[](size_t index) const noexcept { return data_[index]; }
  Value* begin() noexcept { return data_; }
  Value* end() noexcept { return data_ + size_; }
  const Value* begin() const noexcept { return data_; }
  const Value* end() const noexcept { return data_ + size_; }

  /// False: no memory.
  bool resize(size_t size) noexcept {
    if (size > capacity_ && !grow(size)) return false;
    size_ = size;
    return true;
  }
  bool append(const Value* values, size_t count) noexcept {
    const size_t end = size_;
    if (!resize(end + count)) return false;
    if (count) __builtin_memcpy(data_ + end, values, count * sizeof(Value));
    return true;
  }
  bool push(const Value& value) noexcept { return append(&value, 1); }
  bool assign(const Pages& other) noexcept {
    size_ = 0;
    return append(other.data_, other.size_);
  }
  void swap(Pages& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }
  void clear() noexcept {
    if (data_) engine::sys::call(SYS_munmap, data_, capacity_ * sizeof(Value));
    data_ = nullptr;
    size_ = capacity_ = 0;
  }

 private:
  bool grow(size_t size) noexcept {
    constexpr size_t kPage = 4096;
    const size_t wanted = size > 2 * capacity_ ? size : 2 * capacity_;
    const size_t bytes = (wanted * sizeof(Value) + 4 * kPage - 1) & ~(kPage - 1);
    const long memory =
        data_ ? engine::sys::call(SYS_mremap, data_, pages(capacity_ * sizeof(Value)), bytes, MREMAP_MAYMOVE)
              : engine::sys::call(SYS_mmap, nullptr, bytes, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory < 0) return false;
    data_ = reinterpret_cast<Value*>(memory);
    capacity_ = bytes / sizeof(Value);
    return true;
  }
  // The kernel wants the length that it gave out; a remainder smaller than a value is in it.
  static size_t pages(size_t bytes) noexcept { return (bytes + 4095) & ~size_t{4095}; }

  Value* data_ = nullptr;
  size_t size_ = 0, capacity_ = 0;
};

/// Finds the index of an element of a table by its hash. The elements and their hashes are the caller's.
class HashIndex {
 public:
  static constexpr uint32_t kNone = ~uint32_t{0};

  /// The element for which same(index) is true, or kNone.
  template <typename Same>
  uint32_t find(uint64_t hash, Same same) const noexcept {
    if (places_.size() == 0) return kNone;
    const size_t mask = places_.size() - 1;
    for (size_t at = hash & mask; places_[at] != 0; at = (at + 1) & mask)
      if (same(places_[at] - 1)) return places_[at] - 1;
    return kNone;
  }

  /// hash_of(index) is that of an element. False: no memory.
  template <typename HashOf>
  bool insert(uint32_t index, HashOf hash_of) noexcept {
    if ((used_ + 1) * 2 > places_.size()) {
      Pages<uint32_t> larger;
      if (!larger.resize(places_.size() ? places_.size() * 2 : 1024)) return false;
      for (uint32_t place : places_)
        if (place != 0) put(larger, hash_of(place - 1), place);
      places_.swap(larger);
    }
    put(places_, hash_of(index), index + 1);
    ++used_;
    return true;
  }
  void clear() noexcept {
    places_.clear();
    used_ = 0;
  }

 private:
  static void put(Pages<uint32_t>& places, uint64_t hash, uint32_t place) noexcept {
    const size_t mask = places.size() - 1;
    size_t at = hash & mask;
    while (places[at] != 0) at = (at + 1) & mask;
    places[at] = place;
  }

  Pages<uint32_t> places_;  // a power of two of them; index + 1, 0: free
  size_t used_ = 0;
};

}  // namespace weft::heap
