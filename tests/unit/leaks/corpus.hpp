// Functions of which is known whether they leak, for more than one judge: plain C++ that knows nothing of
// Weft.
#pragma once

#include <span>

namespace weft::test {

struct CorpusFunction {
  const char* name;
  void (*call)();
  /// Does what it leaves keep pace with the calls?
  bool leaks;
  /// Where LeakSanitizer says the contrary, why; else null. In docs/design/leaks.md, too.
  const char* lsan_differs = nullptr;
};

/// Each may be called any number of times, by one thread at a time.
std::span<const CorpusFunction> leak_corpus();
/// After so many calls the clean ones hold all that they will ever hold.
inline constexpr int kCorpusFills = 300;

}  // namespace weft::test
