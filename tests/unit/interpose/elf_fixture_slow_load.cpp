// Stops in the middle of its own relocation, so that other threads find it half loaded: an ifunc resolver
// runs while the loader relocates. Such a resolver may call nothing, hence the raw system calls: it writes a
// byte to descriptor 1000 and then waits for one from descriptor 1001.
#include <sys/syscall.h>
#include <unistd.h>

#include "elf_fixture_common.hpp"

namespace {

long system_call(long number, long a, long b, long c) {
  long result;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}

int answer() {
  return 7;
}

}  // namespace

extern "C" {

__attribute__((no_sanitize("address", "undefined", "thread"))) static int (*resolve_answer())() {
  char byte = 0;
  system_call(SYS_write, 1000, reinterpret_cast<long>(&byte), 1);
  system_call(SYS_read, 1001, reinterpret_cast<long>(&byte), 1);
  return answer;
}

__attribute__((visibility("default"), ifunc("resolve_answer"))) int slow_answer();
}

// By name where RELRO cannot tell that the relocation goes on; else by a pointer, which is relocated long
// before.
#ifdef WEFT_BY_NAME
FIXTURE_EXPORT int call_getppid() {
  return getppid() + slow_answer() - 7;
}
#else
static int (*const volatile pointer)() = reinterpret_cast<int (*)()>(getppid);
FIXTURE_EXPORT int call_getppid() {
  return pointer() + slow_answer() - 7;
}
#endif
