// Stands before libc in the lookup order, as a preloaded wrapper does.
#include <unistd.h>

#include "elf_fixture_common.hpp"

FIXTURE_EXPORT pid_t getpgrp() noexcept {
  return -55;
}
