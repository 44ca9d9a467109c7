// Processes that have another allocator than glibc's, in whole or in part.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <string>

namespace {

constexpr const char* kJemalloc = "libjemalloc.so.2";
constexpr const char* kMimalloc = "libmimalloc.so.2";
constexpr const char* kTcmalloc = "libtcmalloc_minimal.so.4";

// glibc's blocks of 1,000 bytes take 8 more; the others have a size of 1,024.
constexpr const char* kGlibcFigures = "glibc\ngrown by 1008000\nfreed all\narenas agree\n";
constexpr const char* kOtherFigures = "\ngrown by 1024000\nfreed all\narenas agree\n";

struct Said {
  std::string text;
  int code = -1;
};

Said run(const std::string& program, const std::string& preload, const std::string& argument = "") {
  FILE* const pipe = popen(("LD_PRELOAD=" + preload + " " + program + " " + argument + " 2>&1").c_str(), "r");
  Said said;
  char line[1024];
  while (pipe && fgets(line, sizeof line, pipe)) said.text += line;
  const int status = pipe ? pclose(pipe) : -1;
  if (status >= 0 && WIFEXITED(status)) said.code = WEXITSTATUS(status);
  return said;
}

// Where the program lies at a fixed address, the malloc() that is found first is a stub of its own.
class Allocators : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(, Allocators, ::testing::Values(PROBE, FIXED_PROBE),
                         [](const auto& which) { return which.index == 0 ? "movable" : "fixed"; });

TEST_P(Allocators, OfGlibc) {
  EXPECT_EQ(run(GetParam(), "").text, kGlibcFigures);
}

TEST_P(Allocators, Preloaded) {
  EXPECT_EQ(run(GetParam(), kJemalloc).text, std::string("jemalloc") + kOtherFigures);
  EXPECT_EQ(run(GetParam(), kMimalloc).text, std::string("mimalloc") + kOtherFigures);
}

TEST_P(Allocators, OneThatIsNotKnownIsRefused) {
  const Said said = run(GetParam(), kTcmalloc);
  EXPECT_EQ(said.code, 3) << said.text;
  EXPECT_NE(said.text.find(std::string("/") + kTcmalloc + ", is not one whose figures are known; run"),
            std::string::npos)
      << said.text;
}

TEST_P(Allocators, HalfOfOneIsRefused) {
  const Said said = run(GetParam(), HALF);
  EXPECT_EQ(said.code, 3) << said.text;
  EXPECT_NE(
      said.text.find(std::string("replaced half-way: malloc() is that of ") + HALF + ", free() that of /"),
      std::string::npos)
      << said.text;
}

TEST_P(Allocators, OneThatIsLoadedLaterIsNotTheProcesss) {
  EXPECT_EQ(run(GetParam(), "", kMimalloc).text, kGlibcFigures);
  EXPECT_EQ(run(GetParam(), kJemalloc, kMimalloc).text, std::string("jemalloc") + kOtherFigures);
}

}  // namespace
