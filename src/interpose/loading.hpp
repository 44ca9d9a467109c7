// Keeping up with libraries that come and go.
#pragma once

#include "interpose/elf/patcher.hpp"
#include "runtime/settings.hpp"

namespace weft::engine::interpose {

/// Called by install(): the patcher to tell of loaded objects, and the settings that are in force.
void set_loading_patcher(elf::Patcher& patcher, const Settings& settings) noexcept;

/// True for the names of the functions that create threads.
bool creates_thread(const char* symbol) noexcept;

}  // namespace weft::engine::interpose
