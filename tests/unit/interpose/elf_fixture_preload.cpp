// Patches from a constructor that runs before this library's own static initialisers, as libweft-preload.so
// does. The patcher is in a library here, so that the program itself is patched.
#include <unistd.h>

#include <cstring>
#include <string>

#include "elf_fixture_common.hpp"
#include "interpose/elf/libc_symbol.hpp"
#include "interpose/elf/patcher.hpp"

using namespace weft::engine::interpose::elf;

namespace {

int routed() {
  return 4242;
}

Patcher& patcher() {
  static const Route routes[] = {{"getppid", reinterpret_cast<void*>(routed)},
                                 {"getpgrp", reinterpret_cast<void*>(routed)}};
  static Patcher* instance = new Patcher(routes);
  return *instance;
}

bool initialised_before_patching = false;
struct Late {
  Late() { initialised_before_patching = true; }
} late;

bool patched_first = false;

__attribute__((constructor(101))) void patch_early() {
  patched_first = !initialised_before_patching;
  patcher().patch();
}

}  // namespace

FIXTURE_EXPORT bool fixture_patched_first() {
  return patched_first;
}
FIXTURE_EXPORT void* fixture_libc_symbol(const char* name) {
  return libc_symbol(name);
}
FIXTURE_EXPORT int fixture_direct_getppid() {
  return getppid();
}
FIXTURE_EXPORT void fixture_rescan() {
  patcher().rescan();
}
FIXTURE_EXPORT int fixture_restore() {
  const RestoreReport report = patcher().restore();
  return report.foreign.empty() && report.failed == 0 ? static_cast<int>(report.slots) : -1;
}
FIXTURE_EXPORT void fixture_patch() {
  patcher().patch();
}

// The reason why the symbol was left alone in the object that contains `address`; -1 if it was not.
FIXTURE_EXPORT int fixture_left_alone(const void* address, const char* symbol) {
  for (const ObjectInventory& object : patcher().inventory()) {
    if (!object.range.contains(reinterpret_cast<std::uintptr_t>(address))) continue;
    for (const ObjectInventory::Left& left : object.left)
      if (left.symbol == symbol) return static_cast<int>(left.reason);
  }
  return -1;
}
