// Texts for callers on the other side of the library's border.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

namespace weft::leaks {

/// Copies what fits of make()'s text, with a NUL, and returns how long it is; 0: no memory.
template <typename Make>
size_t write_text(char* text, size_t room, Make&& make) noexcept {
  try {
    const std::string made = make();
    if (room > 0) {
      const size_t size = std::min(made.size(), room - 1);
      memcpy(text, made.data(), size);
      text[size] = 0;
    }
    return made.size();
  } catch (...) {
    if (room > 0) *text = 0;
    return 0;
  }
}

}  // namespace weft::leaks
