#include "host/python_text.hpp"

#include <algorithm>
#include <cstring>

#include "host/byte_reader.hpp"
#include "host/safe_memory.hpp"

namespace weft::engine::host {

namespace {

// Writes code points as UTF-8; what could disturb a terminal or is no character, as a question mark.
void write_code_point(TextSink& sink, uint32_t point) noexcept {
  char bytes[4];
  size_t size = 0;
  if (point < 0x20 || (point >= 0x7f && point < 0xa0) || (point >= 0xd800 && point < 0xe000) ||
      point > 0x10ffff)
    point = '?';
  const auto continuation = [&](int shift) {
    bytes[size++] = static_cast<char>(0x80 | ((point >> shift) & 0x3f));
  };
  if (point < 0x80) {
    bytes[size++] = static_cast<char>(point);
  } else if (point < 0x800) {
    bytes[size++] = static_cast<char>(0xc0 | point >> 6);
    continuation(0);
  } else if (point < 0x10000) {
    bytes[size++] = static_cast<char>(0xe0 | point >> 12);
    continuation(6);
    continuation(0);
  } else {
    bytes[size++] = static_cast<char>(0xf0 | point >> 18);
    continuation(12);
    continuation(6);
    continuation(0);
  }
  sink.write({bytes, size});
}

// A string object's characters: 1, 2 or 4 bytes each, right behind its header.
struct Characters {
  uintptr_t begin = 0;
  uint64_t length = 0;
  uint32_t width = 0;
  bool ascii = false;

  bool find(const Layout& layout, uintptr_t object, Memory memory = Memory::kForeign) noexcept {
    uint32_t state = 0;
    if (!object || !copy_memory(memory, object + layout.text_length, &length, sizeof length) ||
        !copy_memory(memory, object + layout.text_state, &state, sizeof state))
      return false;
    // The bits of `state`, from the lowest: interned 2, kind 3, compact 1, ASCII 1.
    width = (state >> 2) & 7;
    const bool compact = (state >> 5) & 1;
    ascii = (state >> 6) & 1;
    begin = object + (ascii ? layout.text_ascii_data : layout.text_data);
    return compact && (width == 1 || width == 2 || width == 4);
  }
};

}  // namespace

void write_python_text(const Layout& layout, uintptr_t object, TextSink& sink, uint64_t limit) noexcept {
  Characters characters;
  if (!characters.find(layout, object)) {
    sink.write("???");
    return;
  }
  const uint64_t shown = std::min(characters.length, limit);
  ByteReader reader(characters.begin, shown * characters.width);
  for (uint64_t i = 0; i < shown; ++i) {
    uint32_t point = 0;
    for (uint32_t byte = 0; byte < characters.width; ++byte) {
      uint8_t value;
      if (!reader.next(value)) return;
      point |= static_cast<uint32_t>(value) << (8 * byte);
    }
    write_code_point(sink, point);
  }
  if (characters.length > shown) sink.write("...");
}

bool python_text_is(const Layout& layout, uintptr_t object, std::string_view text) noexcept {
  char present[64];
  Characters characters;
  return text.size() <= sizeof present && characters.find(layout, object) && characters.ascii &&
         characters.length == text.size() && read_memory(characters.begin, present, text.size()) &&
         memcmp(present, text.data(), text.size()) == 0;
}

std::string_view own_ascii_text(const Layout& layout, uintptr_t object) noexcept {
  Characters characters;
  if (!characters.find(layout, object, Memory::kOwn) || !characters.ascii) return {};
  return {reinterpret_cast<const char*>(characters.begin), characters.length};
}

}  // namespace weft::engine::host
