// LeakCheck and LeakSanitizer on the same functions: the former watches what calls leave, the latter looks
// for blocks that nothing leads to.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <ostream>
#include <string>

#include "unit/leaks/corpus.hpp"
#include "weft/heap/leak_check.hpp"

namespace weft::test {

void PrintTo(const CorpusFunction& function, std::ostream* stream) {
  *stream << function.name;
}

namespace {

struct Said {
  std::string text;
  int status = -1;
};

// What LeakSanitizer reports goes with the test's own messages.
Said ask_lsan(const char* name) {
  const std::string command = std::string(LSAN_JUDGE) + " " + name + " " + std::to_string(kCorpusFills);
  FILE* const pipe = popen(command.c_str(), "r");
  Said said;
  char line[256];
  while (pipe && fgets(line, sizeof line, pipe)) said.text += line;
  if (pipe) said.status = pclose(pipe);
  return said;
}

class LsanAgreement : public testing::TestWithParam<CorpusFunction> {};
INSTANTIATE_TEST_SUITE_P(, LsanAgreement, testing::ValuesIn(leak_corpus().begin(), leak_corpus().end()),
                         [](const auto& function) { return std::string(function.param.name); });

TEST_P(LsanAgreement, OnWhetherItLeaks) {
  const CorpusFunction& function = GetParam();
  // LeakSanitizer knows memory alone.
  const heap::LeakReport report = heap::LeakCheck({.search = false, .resources = {}}).run(function.call);
  EXPECT_EQ(report.leaks(), function.leaks) << report.text();
  EXPECT_TRUE(report.exact());

  const bool lsan_finds = function.leaks != (function.lsan_differs != nullptr);
  const Said said = ask_lsan(function.name);
  EXPECT_EQ(said.status, 0) << "LeakSanitizer gave no answer; it cannot where the process is traced";
  EXPECT_EQ(said.text, lsan_finds ? "leaks\n" : "clean\n")
      << (function.lsan_differs ? function.lsan_differs : "no difference is known");
}

}  // namespace
}  // namespace weft::test
