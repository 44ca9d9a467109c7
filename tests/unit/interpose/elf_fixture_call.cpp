// Calls libc through its PLT. Built with lazy binding, with full RELRO, and as the library that is loaded
// again.
#include <unistd.h>

#include "elf_fixture_common.hpp"

FIXTURE_EXPORT int call_getppid() {
  return getppid();
}
FIXTURE_EXPORT int call_getpgrp() {
  return getpgrp();
}
