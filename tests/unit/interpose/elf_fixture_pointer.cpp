// Calls libc through pointers in static data, written and read-only, and through its PLT too: the symbol
// stands in both relocation tables. Also has what a doctor looks for (thread_local), a weak reference to
// nothing, and a function of its own with a libc name.
#include <unistd.h>

#include "elf_fixture_common.hpp"

namespace {

using Function = int();

Function* volatile writable_pointer = reinterpret_cast<Function*>(getppid);
Function* const volatile read_only_pointer = reinterpret_cast<Function*>(getppid);

}  // namespace

extern "C" int weft_nowhere_defined() __attribute__((weak));
FIXTURE_EXPORT int weft_own_function() {
  return 1;
}

extern "C" {
__attribute__((visibility("default"))) thread_local int fixture_thread_local = 5;
}

FIXTURE_EXPORT int call_writable_pointer() {
  return writable_pointer();
}
FIXTURE_EXPORT int call_read_only_pointer() {
  return read_only_pointer();
}
FIXTURE_EXPORT int call_getppid() {
  return getppid();
}
FIXTURE_EXPORT int call_own_getsid() {
  return getsid(0);
}
FIXTURE_EXPORT pid_t getsid(pid_t) noexcept {
  return -77;
}
FIXTURE_EXPORT int has_nowhere_defined() {
  return weft_nowhere_defined != nullptr;
}
