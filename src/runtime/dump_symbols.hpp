// What stands at an address of code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace weft::engine::dump {

/// The strings live as long as the Symbols they came from, and until that is asked for many other objects.
struct Symbol {
  std::string_view object;  ///< path of the library or program; empty if the address is in none
  uintptr_t object_offset = 0;
  std::string_view function;  ///< as the linker knows it; empty if it has no name
  uintptr_t function_offset = 0;
};

/// Looks up addresses in the loaded objects and in the symbol tables of their files, which unlike dladdr's
/// know functions that are not exported.
///
/// Takes no lock and allocates nothing: files are mapped. Async-signal-safe. Not thread-safe. Forget it
/// before the next use if objects may have been unloaded.
class Symbols {
 public:
  constexpr Symbols() noexcept = default;
  Symbols(const Symbols&) = delete;
  Symbols& operator=(const Symbols&) = delete;
  ~Symbols() { forget(); }

  Symbol find(uintptr_t address) noexcept;

  /// Unmaps the files.
  void forget() noexcept;

 private:
  struct Object {
    const void* map = nullptr;  // the loader's link_map
    uintptr_t base = 0;
    char path[256] = {};
    const std::byte* file = nullptr;
    size_t file_size = 0;
    // A table in the file, and the strings its names are in.
    const std::byte* symbols = nullptr;
    size_t symbol_count = 0;
    std::string_view strings;
  };
  static constexpr size_t kObjects = 48;

  Object& object_at(const void* link_map) noexcept;
  static void open(Object& object) noexcept;
  static void close(Object& object) noexcept;
  static void find_table(Object& object) noexcept;

  Object objects_[kObjects];
  size_t used_ = 0;
};

}  // namespace weft::engine::dump
