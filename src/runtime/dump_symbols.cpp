#include "runtime/dump_symbols.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>

#include "fiber/sys.hpp"

namespace weft::engine::dump {

namespace {

template <typename Value>
bool read_at(const std::byte* file, size_t file_size, uint64_t offset, Value& value) noexcept {
  if (offset > file_size || sizeof value > file_size - offset) return false;
  memcpy(&value, file + offset, sizeof value);
  return true;
}

bool inside(const Elf64_Shdr& section, size_t file_size) noexcept {
  return section.sh_offset <= file_size && section.sh_size <= file_size - section.sh_offset;
}

}  // namespace

Symbol Symbols::find(uintptr_t address) noexcept {
  Symbol symbol;
  dl_find_object found;
  if (_dl_find_object(reinterpret_cast<void*>(address), &found) != 0) return symbol;
  const Object& object = object_at(found.dlfo_link_map);
  symbol.object = object.path;
  symbol.object_offset = address - object.base;
  for (size_t i = 0; i < object.symbol_count; ++i) {
    Elf64_Sym entry;
    memcpy(&entry, object.symbols + i * sizeof entry, sizeof entry);
    const int type = ELF64_ST_TYPE(entry.st_info);
    if ((type != STT_FUNC && type != STT_GNU_IFUNC) || entry.st_shndx == SHN_UNDEF) continue;
    if (symbol.object_offset < entry.st_value || symbol.object_offset - entry.st_value >= entry.st_size)
      continue;
    if (entry.st_name >= object.strings.size()) continue;
    const std::string_view rest = object.strings.substr(entry.st_name);
    symbol.function = rest.substr(0, rest.find('\0'));
    symbol.function_offset = symbol.object_offset - entry.st_value;
    break;
  }
  return symbol;
}

void Symbols::forget() noexcept {
  for (size_t i = 0; i < used_; ++i) close(objects_[i]);
  used_ = 0;
}

Symbols::Object& Symbols::object_at(const void* map) noexcept {
  for (size_t i = 0; i < used_; ++i)
    if (objects_[i].map == map) return objects_[i];
  if (used_ == kObjects) close(objects_[--used_]);
  Object& object = objects_[used_++];
  object = Object();
  object.map = map;
  open(object);
  return object;
}

void Symbols::open(Object& object) noexcept {
  const auto* map = static_cast<const link_map*>(object.map);
  object.base = map->l_addr;
  const char* path = map->l_name;
  if (*path) {
    strncpy(object.path, path, sizeof object.path - 1);
  } else {  // the program
    path = "/proc/self/exe";
    sys::call(SYS_readlink, path, object.path, sizeof object.path - 1);
  }
  const int fd = static_cast<int>(sys::call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC));
  if (fd < 0) return;  // the vDSO, or deleted since
  const long size = sys::call(SYS_lseek, fd, 0, SEEK_END);
  if (size > 0) {
    // As a system call, since MAP_FAILED would set errno.
    const long file = sys::call(SYS_mmap, nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (file > 0) {
      object.file = reinterpret_cast<const std::byte*>(file);
      object.file_size = static_cast<size_t>(size);
      find_table(object);
    }
  }
  sys::call(SYS_close, fd);
}

void Symbols::close(Object& object) noexcept {
  if (object.file) sys::call(SYS_munmap, object.file, object.file_size);
  object.file = nullptr;
}

// Takes the full symbol table, or where that was stripped the dynamic one.
void Symbols::find_table(Object& object) noexcept {
  Elf64_Ehdr header;
  if (!read_at(object.file, object.file_size, 0, header) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_shentsize != sizeof(Elf64_Shdr))
    return;
  for (size_t i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr table, strings;
    if (!read_at(object.file, object.file_size, header.e_shoff + i * sizeof table, table)) return;
    if (table.sh_type != SHT_SYMTAB && (table.sh_type != SHT_DYNSYM || object.symbols)) continue;
    if (table.sh_link >= header.e_shnum ||
        !read_at(object.file, object.file_size, header.e_shoff + table.sh_link * sizeof strings, strings) ||
        !inside(table, object.file_size) || !inside(strings, object.file_size))
      continue;
    object.symbols = object.file + table.sh_offset;
    object.symbol_count = table.sh_size / sizeof(Elf64_Sym);
    object.strings = {reinterpret_cast<const char*>(object.file + strings.sh_offset), strings.sh_size};
  }
}

}  // namespace weft::engine::dump
