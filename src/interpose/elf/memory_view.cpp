#include "interpose/elf/memory_view.hpp"

#include <algorithm>

namespace weft::engine::interpose::elf {

MemoryView MemoryView::of_loaded(std::uintptr_t base, std::span<const Elf64_Phdr> headers) noexcept {
  MemoryView view;
  view.headers_ = std::as_bytes(headers);
  view.base_ = base;
  view.loaded_ = true;
  return view;
}

std::optional<MemoryView> MemoryView::of_file(std::span<const std::byte> file, std::uint64_t headers_offset,
                                              std::size_t header_count) noexcept {
  if (headers_offset > file.size()) return std::nullopt;
  if (header_count > (file.size() - headers_offset) / sizeof(Elf64_Phdr)) return std::nullopt;
  MemoryView view;
  view.headers_ = file.subspan(headers_offset, header_count * sizeof(Elf64_Phdr));
  view.file_ = file;
  return view;
}

Elf64_Phdr MemoryView::header(std::size_t index) const noexcept {
  return Table<Elf64_Phdr>(headers_)[index];
}

std::span<const std::byte> MemoryView::contents(const Elf64_Phdr& header) const noexcept {
  if (loaded_) return {reinterpret_cast<const std::byte*>(base_ + header.p_vaddr), header.p_memsz};
  if (header.p_offset > file_.size()) return {};
  return file_.subspan(header.p_offset,
                       std::min<std::uint64_t>(header.p_filesz, file_.size() - header.p_offset));
}

std::span<const std::byte> MemoryView::upto(Elf64_Addr address, std::uint64_t limit) const noexcept {
  for (std::size_t i = 0; i < header_count(); ++i) {
    const Elf64_Phdr segment = header(i);
    if (segment.p_type != PT_LOAD || !(segment.p_flags & PF_R) || address < segment.p_vaddr) continue;
    const auto bytes = contents(segment);
    const std::uint64_t offset = address - segment.p_vaddr;
    if (offset >= bytes.size()) continue;
    return bytes.subspan(offset, std::min<std::uint64_t>(limit, bytes.size() - offset));
  }
  return {};
}

std::span<const std::byte> MemoryView::exactly(Elf64_Addr address, std::uint64_t size) const noexcept {
  const auto bytes = upto(address, size);
  return bytes.size() == size ? bytes : std::span<const std::byte>{};
}

std::string_view string_at(std::span<const std::byte> strings, std::uint64_t offset) noexcept {
  if (offset >= strings.size()) return {};
  const auto* begin = reinterpret_cast<const char*>(strings.data()) + offset;
  const auto* end = static_cast<const char*>(std::memchr(begin, 0, strings.size() - offset));
  return end ? std::string_view(begin, end - begin) : std::string_view{};
}

}  // namespace weft::engine::interpose::elf
