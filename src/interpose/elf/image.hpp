#pragma once

#include <link.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "interpose/elf/memory_view.hpp"

namespace weft::engine::interpose::elf {

// What kind of file the first bytes announce.
enum class FileKind { kNotElf, k32Bit, kForeignMachine, kNotLoadable, kMalformed, kX86_64 };

// Looks at the ELF header only. kNotLoadable is an x86-64 object file or core dump.
FileKind identify(std::span<const std::byte> file) noexcept;

// One place of an object through which it calls a function of another object by name.
struct Slot {
  std::string_view symbol;     // never empty; lives as long as the object
  std::uintptr_t address = 0;  // where the pointer stands: absolute in a loaded object, link-time in a file
  std::uint32_t type = 0;      // R_X86_64_JUMP_SLOT, R_X86_64_GLOB_DAT or R_X86_64_64
  bool defined = false;        // the object has a definition of that name itself
};

// One entry of the dynamic symbol table.
struct Symbol {
  std::string_view name;
  bool defined = false;
  // Where it is, as Slot::address. An undefined one with a value is a function whose address a
  // position-dependent program takes: the value is its stub, which stands for the function in the whole
  // process.
  std::uintptr_t value = 0;
};

struct Segment {
  AddressRange range;
  int protection = 0;  // PROT_*, as the header asks for; RELRO is not taken into account
};

// A reader of one ELF object, loaded in this process or lying in a file. All it reads is checked against the
// object's segments: tables that are missing or corrupt look empty or shorter.
//
// Owns nothing and allocates nothing (it is used while the loader's lock is held): the object must stay
// loaded, or the file's bytes alive, as long as the image and every string_view it gave out. Immutable, so
// safe to share.
class Image {
 public:
  // REQUIRES: called inside dl_iterate_phdr's callback, or the object cannot be unloaded meanwhile.
  static Image of_loaded(const dl_phdr_info& info) noexcept;

  // An x86-64 ELF file; nullopt if identify() does not say kX86_64 or it has no usable program headers.
  static std::optional<Image> of_file(std::span<const std::byte> file, std::string_view name) noexcept;

  std::string_view name() const noexcept { return name_; }  // dlpi_name: empty for the program itself
  std::string_view soname() const noexcept { return string_at(strings_, soname_); }
  std::uintptr_t base() const noexcept { return base_; }
  std::uintptr_t dynamic() const noexcept { return dynamic_; }  // where its dynamic section is; 0 if none
  AddressRange range() const noexcept { return range_; }        // from its first segment to its last
  AddressRange relro() const noexcept { return relro_; }        // as the header says, not rounded to pages
  bool has_tls() const noexcept { return has_tls_; }            // it has `thread_local` variables
  std::string_view interpreter() const noexcept { return interpreter_; }  // PT_INTERP, empty if none

  // A pointer at this absolute address would lie in a segment that is writable (before RELRO).
  bool writable(std::uintptr_t address) const noexcept;

  // Calls visit(const Slot&) for each, in table order. A slot can come twice: some linkers let the tables
  // overlap.
  template <class Visitor>
  void for_each_slot(Visitor&& visit) const {
    for_each_slot([](std::string_view) { return true; }, visit);
  }

  // The same for slots whose symbol is wanted(std::string_view): of the thousands that an object has, few
  // are.
  template <class Predicate, class Visitor>
  void for_each_slot(Predicate&& wanted, Visitor&& visit) const {
    for (const Table<Elf64_Rela>* table : {&relocations_, &plt_relocations_}) {
      for (std::size_t i = 0; i < table->size(); ++i) {
        const Elf64_Rela entry = (*table)[i];
        if (!is_slot_type(entry)) continue;
        const std::string_view symbol = symbol_name(entry);
        Slot slot;
        if (!symbol.empty() && wanted(symbol) && resolve(entry, symbol, slot)) visit(std::as_const(slot));
      }
    }
  }

  // Calls visit(const Symbol&) for each named dynamic symbol.
  template <class Visitor>
  void for_each_symbol(Visitor&& visit) const {
    const std::size_t count = symbol_count();
    for (std::size_t i = 1; i < count; ++i) {
      const Elf64_Sym entry = symbols_[i];
      const Symbol symbol{string_at(strings_, entry.st_name), entry.st_shndx != SHN_UNDEF,
                          entry.st_value ? base_ + entry.st_value : 0};
      if (!symbol.name.empty()) visit(symbol);
    }
  }

  // Calls visit(std::string_view) for each DT_NEEDED name.
  template <class Visitor>
  void for_each_needed(Visitor&& visit) const {
    for (std::size_t i = 0; i < dynamic_table_.size(); ++i) {
      const Elf64_Dyn entry = dynamic_table_[i];
      if (entry.d_tag == DT_NULL) break;
      if (entry.d_tag != DT_NEEDED) continue;
      const std::string_view needed = string_at(strings_, entry.d_un.d_val);
      if (!needed.empty()) visit(needed);
    }
  }

  // Calls visit(const Segment&) for each PT_LOAD.
  template <class Visitor>
  void for_each_segment(Visitor&& visit) const {
    for (std::size_t i = 0; i < view_.header_count(); ++i) {
      const Elf64_Phdr header = view_.header(i);
      if (header.p_type == PT_LOAD) visit(segment_of(header));
    }
  }

 private:
  explicit Image(const MemoryView& view, std::uintptr_t base) noexcept : view_(view), base_(base) {}

  static bool is_slot_type(const Elf64_Rela& entry) noexcept {
    switch (ELF64_R_TYPE(entry.r_info)) {
      case R_X86_64_JUMP_SLOT:
      case R_X86_64_GLOB_DAT:
        return true;
      // A pointer to the middle of something is no call.
      case R_X86_64_64:
        return entry.r_addend == 0;
      default:
        return false;
    }
  }
  std::string_view symbol_name(const Elf64_Rela& entry) const noexcept {
    const std::size_t index = ELF64_R_SYM(entry.r_info);
    return index != 0 && index < symbols_.size() ? string_at(strings_, symbols_[index].st_name)
                                                 : std::string_view{};
  }
  bool resolve(const Elf64_Rela& entry, std::string_view symbol, Slot& slot) const noexcept;
  Segment segment_of(const Elf64_Phdr& header) const noexcept;
  void read_headers() noexcept;
  void read_dynamic() noexcept;
  Elf64_Addr link_address(Elf64_Addr value) const noexcept;
  std::size_t symbol_count() const noexcept;

  MemoryView view_;
  std::uintptr_t base_;
  std::string_view name_;
  std::string_view interpreter_;
  AddressRange range_;
  AddressRange relro_;
  std::uintptr_t dynamic_ = 0;
  bool has_tls_ = false;
  std::uint64_t soname_ = ~std::uint64_t{0};  // no string table is that long
  Elf64_Addr hash_ = 0;
  Elf64_Addr gnu_hash_ = 0;
  Table<Elf64_Dyn> dynamic_table_;
  Table<Elf64_Sym> symbols_;  // up to the end of its segment: the format does not give its size
  Table<Elf64_Rela> relocations_;
  Table<Elf64_Rela> plt_relocations_;
  std::span<const std::byte> strings_;
};

}  // namespace weft::engine::interpose::elf
