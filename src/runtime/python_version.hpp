// What the name of a file tells about the Python in it, where it cannot be asked.
#pragma once

#include <cctype>
#include <string>
#include <string_view>

#include "interpose/elf/base_name.hpp"

namespace weft::engine {

/// "3.10" out of "/usr/bin/python3.10", "3.13t" (without a GIL) out of "libpython3.13t.so.1.0"; empty if the
/// name has no version.
inline std::string python_version_in(std::string_view path) {
  std::string_view name = base_name(path);
  const size_t begin = name.find("python3.");
  if (begin == name.npos) return {};
  name.remove_prefix(begin + 6);
  size_t end = 2;
  while (end < name.size() && isdigit(static_cast<unsigned char>(name[end]))) ++end;
  if (end == 2) return {};
  if (end < name.size() && name[end] == 't') ++end;
  return std::string(name.substr(0, end));
}

/// Of versions as python_version_in() gives them, and of "3.11.2".
inline bool python_is_supported(std::string_view version) {
  if (version.ends_with('t')) return false;
  const std::string_view minor = version.substr(0, version.find('.', 2));
  return minor == "3.11" || minor == "3.12" || minor == "3.13";
}

/// What follows the name of a Python that is not.
inline constexpr std::string_view kPythonUnsupported =
    "is not supported (3.11 to 3.13): its threads stay OS threads";

}  // namespace weft::engine
