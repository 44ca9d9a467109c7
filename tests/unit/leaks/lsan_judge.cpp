// Calls a function of the corpus as often as it is told, and asks LeakSanitizer. Built with -fsanitize=leak,
// and without Weft, so that nothing of ours is in its answer.
#include <sanitizer/lsan_interface.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "unit/leaks/corpus.hpp"

// For the function whose allocation fails. Visible, since the sanitizer's library looks for it.
extern "C" __attribute__((visibility("default"))) const char* __lsan_default_options() {
  return "allocator_may_return_null=1";
}

namespace {

// Away from where the addresses of lost blocks may still lie: LeakSanitizer believes every word on the stack.
[[gnu::noinline]] void clear_stack() {
  volatile char dead[65536];
  for (volatile char& byte : dead) byte = 0;
}

[[gnu::noinline]] bool call(const char* name, int times) {
  for (const auto& function : weft::test::leak_corpus()) {
    if (strcmp(function.name, name) != 0) continue;
    for (int i = 0; i < times; ++i) function.call();
    return true;
  }
  return false;
}

}  // namespace

int main(int count, char** arguments) {
  const int times = count == 3 ? atoi(arguments[2]) : 0;
  if (times < 1 || !call(arguments[1], times)) {
    fprintf(stderr, "Usage: %s FUNCTION TIMES\nPrints leaks or clean.\n", arguments[0]);
    return 2;
  }
  clear_stack();
  // Here, not at the end: destructors would empty what is to be looked at.
  const bool leaks = __lsan_do_recoverable_leak_check();
  puts(leaks ? "leaks" : "clean");
  fflush(stdout);
  _exit(0);
}
