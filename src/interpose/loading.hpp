// Keeping up with libraries that come and go.
#pragma once

#include "interpose/elf/patcher.hpp"
#include "runtime/settings.hpp"

namespace weft::engine::interpose {

/// Called by install(): the patcher to tell of loaded objects, and the settings that are in force.
void set_loading_patcher(elf::Patcher& patcher, const Settings& settings) noexcept;

/// `observer` is called when a routed dlopen() has brought an object, before that returns. It may not
/// suspend. Stays for good.
void set_load_observer(void (*observer)() noexcept) noexcept;

/// True for the names of the functions that create threads.
bool creates_thread(const char* symbol) noexcept;

}  // namespace weft::engine::interpose
