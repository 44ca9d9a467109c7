#pragma once

#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

namespace weft::engine::interpose::elf {

// A half-open range of addresses.
struct AddressRange {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;

  bool contains(std::uintptr_t address) const noexcept { return address >= begin && address < end; }
  bool empty() const noexcept { return begin >= end; }
};

// What is written at an object's link-time addresses, whether the object was loaded by the dynamic linker or
// lies in a file. Every access is checked against the readable PT_LOAD segments, so that a corrupt table
// leads to an empty answer and never outside them.
//
// Owns nothing: the memory or file bytes must outlive the view. Allocates nothing. Immutable, so safe to
// share.
class MemoryView {
 public:
  // An object loaded at `base` (dlpi_addr).
  // REQUIRES: its segments are mapped and stay so.
  static MemoryView of_loaded(std::uintptr_t base, std::span<const Elf64_Phdr> headers) noexcept;

  // An ELF file whose program headers are `header_count` at `headers_offset`; nullopt if those are not all in
  // it.
  static std::optional<MemoryView> of_file(std::span<const std::byte> file, std::uint64_t headers_offset,
                                           std::size_t header_count) noexcept;

  std::size_t header_count() const noexcept { return headers_.size() / sizeof(Elf64_Phdr); }
  // REQUIRES: index < header_count().
  Elf64_Phdr header(std::size_t index) const noexcept;

  // The bytes from `address` to the end of its segment, at most `limit`; empty if the address is in none.
  std::span<const std::byte> upto(Elf64_Addr address, std::uint64_t limit) const noexcept;

  // Exactly `size` bytes at `address`, or empty.
  std::span<const std::byte> exactly(Elf64_Addr address, std::uint64_t size) const noexcept;

  // The bytes a header's segment has in memory (loaded) or in the file.
  std::span<const std::byte> contents(const Elf64_Phdr& header) const noexcept;

 private:
  std::span<const std::byte> headers_;  // kept as bytes: in a file they may be unaligned
  std::span<const std::byte> file_;
  std::uintptr_t base_ = 0;
  bool loaded_ = false;
};

// A table of plain structures that may be cut short or unaligned; a trailing part of an element is no
// element.
template <class T>
class Table {
 public:
  Table() = default;
  explicit Table(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

  std::size_t size() const noexcept { return bytes_.size() / sizeof(T); }

  // REQUIRES: index < size().
  T operator[](std::size_t index) const noexcept {
    T element;
    std::memcpy(&element, bytes_.data() + index * sizeof(T), sizeof(T));
    return element;
  }

 private:
  std::span<const std::byte> bytes_;
};

// The string at `offset` of a string table; empty if it does not start and end inside the table.
std::string_view string_at(std::span<const std::byte> strings, std::uint64_t offset) noexcept;

}  // namespace weft::engine::interpose::elf
