// Feeds the ELF parser arbitrary files. AddressSanitizer sees any read outside the input; time limits see
// loops.
//
// Without a corpus of its own it starts from two small objects that it writes next to the program.
#include <elf.h>
#include <sys/stat.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "interpose/elf/image.hpp"

namespace {

using namespace weft::engine::interpose::elf;

// A small object in which link-time addresses are file offsets, with every table the parser knows.
class Seed {
 public:
  explicit Seed(bool gnu_hash) {
    bytes_.resize(sizeof(Elf64_Ehdr) + kSegments * sizeof(Elf64_Phdr));
    const Elf64_Addr interpreter = add(std::string_view("/lib64/ld-linux-x86-64.so.2\0", 28));
    const Elf64_Addr strings = add(std::string_view("\0read\0own\0libc.so.6\0libseed.so\0", 31));
    const Elf64_Addr symbols = add(Elf64_Sym{});
    add(Elf64_Sym{.st_name = 1, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC)});
    add(Elf64_Sym{
        .st_name = 6, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), .st_shndx = 1, .st_value = 64});
    const Elf64_Addr slots = add(std::uint64_t{0});
    add(std::uint64_t{0});
    const Elf64_Addr relocations = add(Elf64_Rela{slots, ELF64_R_INFO(1, R_X86_64_GLOB_DAT), 0});
    add(Elf64_Rela{slots, ELF64_R_INFO(2, R_X86_64_64), 0});
    const Elf64_Addr plt_relocations = add(Elf64_Rela{slots + 8, ELF64_R_INFO(1, R_X86_64_JUMP_SLOT), 0});
    // One bucket; GNU: the first hashed symbol is 2, one bloom word, and symbol 2 ends its chain.
    const Elf64_Addr hash =
        gnu_hash ? add(Words{{1, 2, 1, 0, 0, 0, 2, 1}}) : add(Words{{1, 3, 2, 0, 0, 1, 0, 0}});
    const Elf64_Dyn entries[] = {{DT_NEEDED, {10}},
                                 {DT_SONAME, {20}},
                                 {gnu_hash ? DT_GNU_HASH : DT_HASH, {hash}},
                                 {DT_STRTAB, {strings}},
                                 {DT_STRSZ, {31}},
                                 {DT_SYMTAB, {symbols}},
                                 {DT_RELA, {relocations}},
                                 {DT_RELASZ, {2 * sizeof(Elf64_Rela)}},
                                 {DT_JMPREL, {plt_relocations}},
                                 {DT_PLTRELSZ, {sizeof(Elf64_Rela)}},
                                 {DT_PLTREL, {DT_RELA}},
                                 {DT_NULL, {0}}};
    const Elf64_Addr dynamic = bytes_.size();
    for (const Elf64_Dyn& entry : entries) add(entry);
    header(0, PT_LOAD, PF_R | PF_W, 0, bytes_.size());
    header(1, PT_DYNAMIC, PF_R | PF_W, dynamic, sizeof entries);
    header(2, PT_INTERP, PF_R, interpreter, 28);
    header(3, PT_GNU_RELRO, PF_R, dynamic, sizeof entries);
    header(4, PT_TLS, PF_R, slots, 0);
    Elf64_Ehdr file{};
    std::memcpy(file.e_ident, ELFMAG, SELFMAG);
    file.e_ident[EI_CLASS] = ELFCLASS64;
    file.e_ident[EI_DATA] = ELFDATA2LSB;
    file.e_type = ET_DYN;
    file.e_machine = EM_X86_64;
    file.e_phoff = sizeof file;
    file.e_phentsize = sizeof(Elf64_Phdr);
    file.e_phnum = kSegments;
    std::memcpy(bytes_.data(), &file, sizeof file);
  }

  const std::string& bytes() const { return bytes_; }

 private:
  static constexpr std::size_t kSegments = 5;
  struct Words {
    std::uint32_t word[8];
  };

  template <class T>
  Elf64_Addr add(const T& value) {
    return add(std::string_view(reinterpret_cast<const char*>(&value), sizeof value));
  }
  Elf64_Addr add(std::string_view bytes) {
    bytes_.resize((bytes_.size() + 7) / 8 * 8);
    bytes_ += bytes;
    return bytes_.size() - bytes.size();
  }
  void header(std::size_t index, Elf64_Word type, Elf64_Word flags, Elf64_Addr at, std::size_t size) {
    const Elf64_Phdr header{type, flags, at, at, at, size, size, 8};
    std::memcpy(bytes_.data() + sizeof(Elf64_Ehdr) + index * sizeof header, &header, sizeof header);
  }

  std::string bytes_;
};

// A broken seed would leave the fuzzer at the front door.
void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "the seed is not read as it should be: %s\n", what);
  std::abort();
}

void check(const Seed& seed) {
  const auto image = Image::of_file(std::as_bytes(std::span(seed.bytes())), "seed");
  require(image.has_value(), "image");
  std::size_t slots = 0, symbols = 0, needed = 0;
  image->for_each_slot([&](const Slot&) { ++slots; });
  image->for_each_symbol([&](const Symbol&) { ++symbols; });
  image->for_each_needed([&](std::string_view) { ++needed; });
  require(slots == 3, "slots");
  require(symbols == 2, "symbols");
  require(needed == 1, "needed");
  require(image->soname() == "libseed.so", "soname");
  require(image->has_tls() && !image->interpreter().empty(), "headers");
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  static std::string corpus = std::string((*argv)[0]) + "_corpus";
  mkdir(corpus.c_str(), 0755);
  for (const bool gnu_hash : {false, true}) {
    const Seed seed(gnu_hash);
    check(seed);
    std::ofstream(corpus + (gnu_hash ? "/seed_gnu_hash" : "/seed_hash"), std::ios::binary) << seed.bytes();
  }
  // Only options given: the corpus is ours.
  for (int i = 1; i < *argc; ++i)
    if ((*argv)[i][0] != '-') return 0;
  static std::vector<char*> arguments(*argv, *argv + *argc);
  arguments.push_back(corpus.data());
  arguments.push_back(nullptr);
  *argv = arguments.data();
  ++*argc;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto image = Image::of_file(std::as_bytes(std::span(data, size)), "input");
  if (!image) return 0;
  // Sums, so that nothing that is given out goes unread.
  std::size_t seen = image->soname().size() + image->interpreter().size() + image->has_tls();
  const auto read = [&](std::string_view text) {
    for (const char c : text) seen += static_cast<unsigned char>(c);
  };
  read(image->soname());
  read(image->interpreter());
  image->for_each_slot([&](const Slot& slot) {
    read(slot.symbol);
    if (slot.symbol.empty() || slot.address % 8 != 0 || !image->writable(slot.address)) std::abort();
  });
  image->for_each_symbol([&](const Symbol& symbol) { read(symbol.name); });
  image->for_each_needed(read);
  image->for_each_segment([&](const Segment& segment) { seen += segment.protection; });
  volatile std::size_t sink = seen;
  static_cast<void>(sink);
  return 0;
}
