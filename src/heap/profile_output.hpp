// Files that are there whole or not at all.
#pragma once

#include <string_view>

namespace weft::heap {

/// Writes a file beside `path` and renames it. Returns 0 or an errno, and then leaves nothing behind. Blocks.
int write_file(const char* path, std::string_view content);

}  // namespace weft::heap
