#pragma once

#include <cstdint>
#include <memory_resource>
#include <optional>
#include <vector>

#include "interpose/elf/image.hpp"

namespace weft::engine::interpose::elf {

// How the pages of this process are protected, as /proc/self/maps told when asked. An object's headers do not
// tell all of it: RELRO pages become read-only only after relocation, and other tools change protections too.
//
// Not thread-safe.
class Protections {
 public:
  explicit Protections(std::pmr::memory_resource* memory) : mappings_(memory), text_(memory) {}

  // Reads the list anew. False if /proc is not there: then nothing is known.
  bool read();

  // Without /proc: what the object's headers say its pages have when it is loaded and relocated. Forgets all
  // others.
  void assume(const Image& image);

  // PROT_* of the page at `address`; nullopt if it is not mapped or nothing is known.
  std::optional<int> at(std::uintptr_t address) const noexcept;

 private:
  struct Mapping {
    AddressRange range;
    int protection;
  };

  void parse();

  std::pmr::vector<Mapping> mappings_;  // ascending, as the kernel lists them
  std::pmr::vector<char> text_;
};

}  // namespace weft::engine::interpose::elf
