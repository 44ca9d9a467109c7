// Text as XML has it.
#pragma once

#include <string>
#include <string_view>

namespace weft::leaks {

/// For text and attributes, of SVG and JUnit. Control characters, for most of which XML has no place, become
/// spaces, but for the ends of lines if `lines`.
inline std::string escape_xml(std::string_view text, bool lines = false) {
  std::string safe;
  for (const char c : text) switch (c) {
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '&':
        safe += "&amp;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\n':
        safe += lines ? '\n' : ' ';
        break;
      default:
        safe += static_cast<unsigned char>(c) < ' ' || c == 127 ? ' ' : c;
    }
  return safe;
}

}  // namespace weft::leaks
