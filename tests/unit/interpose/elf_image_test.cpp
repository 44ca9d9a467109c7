#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "interpose/elf/image.hpp"
#include "interpose/elf/mapped_file.hpp"
#include "interpose/elf/protections.hpp"

namespace {

using namespace weft::engine::interpose::elf;

std::vector<std::byte> bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> text{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::byte> bytes(text.size());
  std::transform(text.begin(), text.end(), bytes.begin(), [](char c) { return static_cast<std::byte>(c); });
  return bytes;
}

// Everything a reader can ask for, so that corrupt input reaches all of the parser.
std::size_t read_all(const Image& image) {
  std::size_t seen = image.name().size() + image.soname().size() + image.interpreter().size();
  image.for_each_slot([&](const Slot& slot) { seen += slot.symbol.size(); });
  image.for_each_symbol([&](const Symbol& symbol) { seen += symbol.name.size(); });
  image.for_each_needed([&](std::string_view needed) { seen += needed.size(); });
  image.for_each_segment([&](const Segment& segment) { seen += segment.protection; });
  return seen;
}

struct Slots {
  std::multimap<std::string, std::pair<std::uintptr_t, std::uint32_t>> by_symbol;

  explicit Slots(const Image& image) {
    image.for_each_slot([&](const Slot& slot) {
      by_symbol.emplace(slot.symbol, std::pair(slot.address - image.base(), slot.type));
    });
  }
  std::multiset<std::uint32_t> types(const std::string& symbol) const {
    std::multiset<std::uint32_t> types;
    const auto [begin, end] = by_symbol.equal_range(symbol);
    for (auto i = begin; i != end; ++i) types.insert(i->second.second);
    return types;
  }
};

class Library {
 public:
  explicit Library(const char* path) : handle_(dlopen(path, RTLD_NOW | RTLD_LOCAL)), path_(path) {
    EXPECT_TRUE(handle_) << dlerror();
  }
  ~Library() { dlclose(handle_); }

  void with_image(const std::function<void(const Image&)>& use) const {
    const std::pair call(path_, &use);
    bool found = dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* data) {
          const auto& [path, function] = *static_cast<decltype(call)*>(data);
          if (std::string_view(info->dlpi_name) != path) return 0;
          (*function)(Image::of_loaded(*info));
          return 1;
        },
        const_cast<void*>(static_cast<const void*>(&call)));
    EXPECT_TRUE(found);
  }

 private:
  void* handle_;
  std::string_view path_;
};

TEST(ElfImage, FindsSlotsOfBothTables) {
  const MappedFile file(WEFT_FIXTURE_POINTER);
  const auto image = Image::of_file(file.bytes(), "pointer");
  ASSERT_TRUE(image);
  EXPECT_EQ(Slots(*image).types("getppid"),
            (std::multiset<std::uint32_t>{R_X86_64_64, R_X86_64_64, R_X86_64_JUMP_SLOT}));
  EXPECT_EQ(Slots(*image).types("weft_nowhere_defined"), (std::multiset<std::uint32_t>{R_X86_64_GLOB_DAT}));
}

TEST(ElfImage, LoadedAndFileAgree) {
  const Library library(WEFT_FIXTURE_POINTER);
  const MappedFile file(WEFT_FIXTURE_POINTER);
  const auto from_file = Image::of_file(file.bytes(), WEFT_FIXTURE_POINTER);
  ASSERT_TRUE(from_file);
  library.with_image([&](const Image& loaded) {
    EXPECT_EQ(Slots(loaded).by_symbol, Slots(*from_file).by_symbol);
    EXPECT_EQ(loaded.soname(), from_file->soname());
    EXPECT_EQ(loaded.name(), from_file->name());
    EXPECT_EQ(loaded.has_tls(), from_file->has_tls());
    EXPECT_EQ(loaded.dynamic() - loaded.base(), from_file->dynamic());
    EXPECT_EQ(loaded.relro().begin - loaded.base(), from_file->relro().begin);
    EXPECT_EQ(loaded.range().end - loaded.base(), from_file->range().end);
    EXPECT_EQ(read_all(loaded), read_all(*from_file));
  });
}

TEST(ElfImage, ReadsHeadersAndNames) {
  const MappedFile pointer(WEFT_FIXTURE_POINTER), call(WEFT_FIXTURE_LAZY);
  const auto image = Image::of_file(pointer.bytes(), "pointer");
  ASSERT_TRUE(image);
  EXPECT_TRUE(image->has_tls());
  EXPECT_FALSE(image->relro().empty());
  EXPECT_EQ(image->soname(), "libelf_fixture_pointer.so");
  EXPECT_EQ(image->interpreter(), "");
  EXPECT_FALSE(Image::of_file(call.bytes(), "call")->has_tls());
  std::set<std::string> needed;
  image->for_each_needed([&](std::string_view name) { needed.emplace(name); });
  EXPECT_TRUE(needed.contains("libc.so.6"));
  std::map<std::string, bool> defined;
  image->for_each_symbol([&](const Symbol& symbol) { defined[std::string(symbol.name)] = symbol.defined; });
  EXPECT_TRUE(defined.at("call_writable_pointer"));
  EXPECT_FALSE(defined.at("getppid"));
}

TEST(ElfImage, SegmentsCoverTheRange) {
  const Library library(WEFT_FIXTURE_LAZY);
  library.with_image([](const Image& image) {
    bool executable = false, contains_all = true;
    image.for_each_segment([&](const Segment& segment) {
      executable |= (segment.protection & PROT_EXEC) != 0;
      contains_all &= segment.range.begin >= image.range().begin && segment.range.end <= image.range().end;
    });
    EXPECT_TRUE(executable);
    EXPECT_TRUE(contains_all);
  });
}

TEST(ElfImage, EveryLoadedObjectCanBeRead) {
  std::size_t slots = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        const Image image = Image::of_loaded(*info);
        read_all(image);
        image.for_each_slot([&](const Slot& slot) {
          EXPECT_TRUE(image.range().contains(slot.address)) << image.name();
          ++*static_cast<std::size_t*>(data);
        });
        return 0;
      },
      &slots);
  EXPECT_GT(slots, 100u);
}

// The headers say what the loader does, where /proc cannot be asked.
TEST(ElfImage, AssumedProtectionsAreTheTrueOnes) {
  for (const char* path : {WEFT_FIXTURE_LAZY, WEFT_FIXTURE_NOW, WEFT_FIXTURE_POINTER}) {
    const Library library(path);
    library.with_image([&](const Image& image) {
      Protections assumed(std::pmr::new_delete_resource()), actual(std::pmr::new_delete_resource());
      assumed.assume(image);
      ASSERT_TRUE(actual.read());
      image.for_each_segment([&](const Segment& segment) {
        for (std::uintptr_t at = segment.range.begin & ~std::uintptr_t{4095}; at < segment.range.end;
             at += 4096)
          EXPECT_EQ(assumed.at(at), actual.at(at)) << path << " + " << std::hex << at - image.base();
      });
    });
  }
}

TEST(ElfImage, TruncatedFilesAreReadAsFarAsTheyGo) {
  const auto whole = bytes_of(WEFT_FIXTURE_POINTER);
  const std::size_t all = read_all(*Image::of_file(whole, ""));
  for (std::size_t size = 0; size < whole.size(); size += size < 1024 ? 1 : 61) {
    // A copy of exactly that size, so that a sanitizer sees a read past its end.
    const std::vector<std::byte> part(whole.begin(), whole.begin() + size);
    const auto image = Image::of_file(part, "");
    if (image) {
      EXPECT_LE(read_all(*image), all);
    }
  }
}

TEST(ElfImage, CorruptTablesStayInsideTheFile) {
  const auto whole = bytes_of(WEFT_FIXTURE_POINTER);
  const std::vector<std::uint64_t> values = {0,          1,     0xfff,     0x7fffffff,
                                             0xffffffff, ~0ull, ~0ull - 7, 1ull << 63};
  const auto corrupt = [&](std::size_t begin, std::size_t end) {
    for (std::size_t at = begin; at + 8 <= end && at + 8 <= whole.size(); at += 8) {
      for (const std::uint64_t value : values) {
        std::vector<std::byte> copy = whole;
        std::memcpy(copy.data() + at, &value, sizeof value);
        if (const auto broken = Image::of_file(copy, "")) read_all(*broken);
      }
    }
  };
  corrupt(0, 64 + 14 * 56);  // the ELF header and the program headers
  // The dynamic section: found by its first entry, the needed library.
  Elf64_Ehdr header;
  std::memcpy(&header, whole.data(), sizeof header);
  for (int i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    std::memcpy(&segment, whole.data() + header.e_phoff + i * sizeof segment, sizeof segment);
    if (segment.p_type == PT_DYNAMIC) corrupt(segment.p_offset, segment.p_offset + segment.p_filesz);
  }
}

TEST(ElfImage, StringsEndInsideTheirTable) {
  const char text[] = {'a', 'b', 0, 'c', 'd', 'e', 0};
  const auto table = std::as_bytes(std::span(text)).first(5);  // cuts the second string short
  EXPECT_EQ(string_at(table, 0), "ab");
  EXPECT_EQ(string_at(table, 1), "b");
  EXPECT_EQ(string_at(table, 3), "");
  EXPECT_EQ(string_at(table, 5), "");
  EXPECT_EQ(string_at(table, ~0ull), "");
}

TEST(ElfImage, IdentifiesForeignFiles) {
  auto bytes = bytes_of(WEFT_FIXTURE_LAZY);
  const auto changed = [&](std::size_t at, int value) {
    auto copy = bytes;
    copy[at] = static_cast<std::byte>(value);
    return identify(copy);
  };
  EXPECT_EQ(identify(bytes), FileKind::kX86_64);
  EXPECT_EQ(changed(0, 'X'), FileKind::kNotElf);
  EXPECT_EQ(changed(EI_CLASS, ELFCLASS32), FileKind::k32Bit);
  EXPECT_EQ(changed(EI_DATA, ELFDATA2MSB), FileKind::kForeignMachine);
  EXPECT_EQ(changed(offsetof(Elf64_Ehdr, e_machine), EM_AARCH64), FileKind::kForeignMachine);
  EXPECT_EQ(changed(offsetof(Elf64_Ehdr, e_type), ET_REL), FileKind::kNotLoadable);
  EXPECT_EQ(changed(offsetof(Elf64_Ehdr, e_phentsize), 1), FileKind::kMalformed);
  EXPECT_EQ(identify({}), FileKind::kNotElf);
}

}  // namespace
