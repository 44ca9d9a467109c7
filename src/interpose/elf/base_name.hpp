// The last part of a path.
#pragma once

#include <string_view>

namespace weft::engine {

/// What follows the last slash: "python3" of "/usr/bin/python3". A view of `path`.
inline std::string_view base_name(std::string_view path) noexcept {
  return path.substr(path.rfind('/') + 1);
}

}  // namespace weft::engine
