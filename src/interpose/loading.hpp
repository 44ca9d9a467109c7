// Keeping up with libraries that come and go.
#pragma once

#include "interpose/elf/patcher.hpp"

namespace weft::interpose {

/// Called by install(): the patcher to tell of loaded objects.
void set_loading_patcher(elf::Patcher& patcher) noexcept;

}  // namespace weft::interpose
