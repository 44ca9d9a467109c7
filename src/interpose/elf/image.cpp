#include "interpose/elf/image.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <limits>

namespace weft::engine::interpose::elf {

namespace {

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

std::optional<Elf64_Ehdr> read_header(std::span<const std::byte> file) noexcept {
  if (file.size() < sizeof(Elf64_Ehdr)) return std::nullopt;
  return Table<Elf64_Ehdr>(file)[0];
}

}  // namespace

FileKind identify(std::span<const std::byte> file) noexcept {
  if (file.size() < SELFMAG || std::memcmp(file.data(), ELFMAG, SELFMAG) != 0) return FileKind::kNotElf;
  if (file.size() < sizeof(Elf32_Ehdr)) return FileKind::kMalformed;
  const auto* ident = reinterpret_cast<const unsigned char*>(file.data());
  // The machine stands at the same place in both classes, and is the more telling answer for a foreign file;
  // x32 programs and i386 ones are both 32-bit to us.
  const auto machine = Table<std::uint16_t>(file)[offsetof(Elf32_Ehdr, e_machine) / sizeof(std::uint16_t)];
  if (ident[EI_DATA] != ELFDATA2LSB || (machine != EM_X86_64 && machine != EM_386))
    return FileKind::kForeignMachine;
  if (ident[EI_CLASS] == ELFCLASS32) return FileKind::k32Bit;
  if (ident[EI_CLASS] != ELFCLASS64 || machine != EM_X86_64) return FileKind::kMalformed;
  const auto header = read_header(file);
  if (!header) return FileKind::kMalformed;
  if (header->e_type != ET_EXEC && header->e_type != ET_DYN) return FileKind::kNotLoadable;
  return header->e_phentsize == sizeof(Elf64_Phdr) ? FileKind::kX86_64 : FileKind::kMalformed;
}

Image Image::of_loaded(const dl_phdr_info& info) noexcept {
  Image image(MemoryView::of_loaded(info.dlpi_addr, {info.dlpi_phdr, info.dlpi_phnum}), info.dlpi_addr);
  image.name_ = info.dlpi_name ? info.dlpi_name : "";
  image.read_headers();
  image.read_dynamic();
  return image;
}

std::optional<Image> Image::of_file(std::span<const std::byte> file, std::string_view name) noexcept {
  if (identify(file) != FileKind::kX86_64) return std::nullopt;
  const auto header = read_header(file);
  const auto view = MemoryView::of_file(file, header->e_phoff, header->e_phnum);
  if (!view) return std::nullopt;
  Image image(*view, 0);
  image.name_ = name;
  image.read_headers();
  image.read_dynamic();
  return image;
}

Segment Image::segment_of(const Elf64_Phdr& header) const noexcept {
  const std::uintptr_t begin = base_ + header.p_vaddr;
  const int protection = (header.p_flags & PF_R ? PROT_READ : 0) | (header.p_flags & PF_W ? PROT_WRITE : 0) |
                         (header.p_flags & PF_X ? PROT_EXEC : 0);
  return {{begin, begin + header.p_memsz}, protection};
}

void Image::read_headers() noexcept {
  range_ = {std::numeric_limits<std::uintptr_t>::max(), 0};
  for (std::size_t i = 0; i < view_.header_count(); ++i) {
    const Elf64_Phdr header = view_.header(i);
    const AddressRange covered = segment_of(header).range;
    switch (header.p_type) {
      case PT_LOAD:
        range_.begin = std::min(range_.begin, covered.begin);
        range_.end = std::max(range_.end, covered.end);
        break;
      case PT_DYNAMIC:
        dynamic_ = covered.begin;
        dynamic_table_ = Table<Elf64_Dyn>(view_.upto(header.p_vaddr, header.p_memsz));
        break;
      case PT_GNU_RELRO:
        relro_ = covered;
        break;
      case PT_TLS:
        has_tls_ = true;
        break;
      case PT_INTERP: {
        // Read by its address: in a loaded object only PT_LOAD segments are known to be mapped.
        interpreter_ = string_at(view_.upto(header.p_vaddr, header.p_filesz), 0);
        break;
      }
    }
  }
  if (range_.empty()) range_ = {};
}

// glibc relocates the pointers of a dynamic section in place where the section is writable, and leaves them
// where it is not (the vDSO, objects with a read-only dynamic section). Only the values tell which was done.
Elf64_Addr Image::link_address(Elf64_Addr value) const noexcept {
  if (value >= base_ && !view_.upto(value - base_, 1).empty()) return value - base_;
  return value;
}

void Image::read_dynamic() noexcept {
  Elf64_Addr symbols = 0, strings = 0, relocations = 0, plt_relocations = 0;
  std::uint64_t strings_size = 0, relocations_size = 0, plt_relocations_size = 0, relative = 0;
  bool plt_has_addends = true;
  for (std::size_t i = 0; i < dynamic_table_.size(); ++i) {
    const Elf64_Dyn entry = dynamic_table_[i];
    if (entry.d_tag == DT_NULL) break;
    switch (entry.d_tag) {
      case DT_SYMTAB:
        symbols = entry.d_un.d_ptr;
        break;
      case DT_STRTAB:
        strings = entry.d_un.d_ptr;
        break;
      case DT_STRSZ:
        strings_size = entry.d_un.d_val;
        break;
      case DT_RELA:
        relocations = entry.d_un.d_ptr;
        break;
      case DT_RELASZ:
        relocations_size = entry.d_un.d_val;
        break;
      case DT_RELACOUNT:
        relative = entry.d_un.d_val;
        break;
      case DT_JMPREL:
        plt_relocations = entry.d_un.d_ptr;
        break;
      case DT_PLTRELSZ:
        plt_relocations_size = entry.d_un.d_val;
        break;
      case DT_PLTREL:
        plt_has_addends = entry.d_un.d_val == DT_RELA;
        break;
      case DT_HASH:
        hash_ = entry.d_un.d_ptr;
        break;
      case DT_GNU_HASH:
        gnu_hash_ = entry.d_un.d_ptr;
        break;
      case DT_SONAME:
        soname_ = entry.d_un.d_val;
        break;
    }
  }
  // A missing table would otherwise be looked for at address 0, which is the ELF header of most objects.
  if (symbols) symbols_ = Table<Elf64_Sym>(view_.upto(link_address(symbols), kNoLimit));
  if (strings) strings_ = view_.upto(link_address(strings), strings_size);
  if (relocations) {
    auto table = view_.upto(link_address(relocations), relocations_size);
    // Relative relocations come first and name no symbol; in large C++ libraries they are nearly all there
    // is.
    table = table.subspan(std::min<std::uint64_t>(relative, table.size() / sizeof(Elf64_Rela)) *
                          sizeof(Elf64_Rela));
    relocations_ = Table<Elf64_Rela>(table);
  }
  if (plt_relocations && plt_has_addends)
    plt_relocations_ = Table<Elf64_Rela>(view_.upto(link_address(plt_relocations), plt_relocations_size));
}

bool Image::writable(std::uintptr_t address) const noexcept {
  const Elf64_Addr place = address - base_;
  for (std::size_t i = 0; i < view_.header_count(); ++i) {
    const Elf64_Phdr header = view_.header(i);
    if (header.p_type == PT_LOAD && (header.p_flags & PF_W) && place >= header.p_vaddr &&
        place - header.p_vaddr < header.p_memsz &&
        header.p_memsz - (place - header.p_vaddr) >= sizeof(void*)) {
      return true;
    }
  }
  return false;
}

// A slot that is unaligned cannot be written atomically, and one outside the writable segments is a text
// relocation or corrupt: neither is a slot to us.
bool Image::resolve(const Elf64_Rela& entry, std::string_view symbol, Slot& slot) const noexcept {
  if (!writable(base_ + entry.r_offset)) return false;
  slot.symbol = symbol;
  slot.address = base_ + entry.r_offset;
  slot.type = ELF64_R_TYPE(entry.r_info);
  slot.defined = symbols_[ELF64_R_SYM(entry.r_info)].st_shndx != SHN_UNDEF;
  return slot.address % sizeof(void*) == 0;
}

// The symbol table has no size of its own. The classic hash table gives the number outright; the GNU one only
// bounds it: the longest chain ends with the last symbol.
std::size_t Image::symbol_count() const noexcept {
  if (hash_) {
    const Table<std::uint32_t> words(view_.exactly(link_address(hash_), 2 * sizeof(std::uint32_t)));
    return words.size() == 2 ? std::min<std::size_t>(words[1], symbols_.size()) : 0;
  }
  if (!gnu_hash_) return 0;
  const Table<std::uint32_t> words(view_.upto(link_address(gnu_hash_), kNoLimit));
  if (words.size() < 4) return 0;
  const std::uint64_t bucket_count = words[0], first_hashed = words[1], bloom_words = words[2];
  const std::uint64_t buckets = 4 + 2 * bloom_words;
  const std::uint64_t chains = buckets + bucket_count;
  std::uint64_t last = 0;
  for (std::uint64_t i = buckets; i < chains && i < words.size(); ++i)
    last = std::max<std::uint64_t>(last, words[i]);
  if (last < first_hashed) return std::min<std::uint64_t>(first_hashed, symbols_.size());
  while (chains + last - first_hashed < words.size() && !(words[chains + last - first_hashed] & 1)) ++last;
  return std::min<std::uint64_t>(last + 1, symbols_.size());
}

}  // namespace weft::engine::interpose::elf
