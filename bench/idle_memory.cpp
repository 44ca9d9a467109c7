// What does an idle fiber cost in memory, page tables and the kernel's records of mappings included?
//
// Usage: idle_memory [FIBERS [STACK_KIB]], by default 1,000,000 fibers with stacks of 16 KiB.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "engine.hpp"

namespace weft::engine {
namespace {

int64_t status_kib(const char* field) {
  int64_t value = 0;
  FILE* file = fopen("/proc/self/status", "r");
  char line[256];
  while (file && fgets(line, sizeof line, file))
    if (strncmp(line, field, strlen(field)) == 0) value = atoll(line + strlen(field));
  if (file) fclose(file);
  return value;
}

int64_t mappings() {
  int64_t count = 0;
  FILE* file = fopen("/proc/self/maps", "r");
  for (int c; file && (c = fgetc(file)) != EOF;) count += c == '\n';
  if (file) fclose(file);
  return count;
}

int run(int64_t count, size_t stack_size) {
  Engine engine;
  std::atomic<uint32_t> gate{0};
  const int64_t resident = status_kib("VmRSS:"), tables = status_kib("VmPTE:");
  const Nanos start = monotonic_now();
  {
    Fibers fibers(
        engine, count, [&] { engine.wait_for(gate); }, stack_size);
    const Nanos created = monotonic_now();
    engine.carrier.yield();
    const Nanos parked = monotonic_now();
    const auto each = [&](int64_t kib) { return static_cast<double>(kib) / static_cast<double>(count); };
    const auto nanos = [&](Nanos length) { return static_cast<double>(length) / static_cast<double>(count); };
    const int64_t memory = status_kib("VmRSS:") - resident, page_tables = status_kib("VmPTE:") - tables;
    printf("%lld idle fibers: %.2f KiB each (%.2f resident, %.2f page tables), %lld mappings\n",
           static_cast<long long>(count), each(memory + page_tables), each(memory), each(page_tables),
           static_cast<long long>(mappings()));
    printf("created in %.0f ns each, first run and park %.0f ns each", nanos(created - start),
           nanos(parked - created));
    engine.open(gate);
    const Nanos opened = monotonic_now();
    engine.carrier.yield();
    printf(", woken in %.0f ns each, last run and end %.0f ns each\n", nanos(opened - parked),
           nanos(monotonic_now() - opened));
  }
  printf("left when all are gone: %lld KiB resident\n",
         static_cast<long long>(status_kib("VmRSS:") - resident));
  return 0;
}

}  // namespace
}  // namespace weft::engine

int main(int argc, char** argv) {
  return weft::engine::run(argc > 1 ? atoll(argv[1]) : 1'000'000,
                           (argc > 2 ? strtoul(argv[2], nullptr, 10) : 16) * 1024);
}
