#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

#include "host/python.hpp"
#include "host/safe_memory.hpp"
#include "host/text_sink.hpp"

namespace weft::engine::host {
namespace {

class SafeMemoryTest : public ::testing::TestWithParam<bool (*)(uintptr_t, void*, size_t) noexcept> {
 protected:
  void SetUp() override {
    pages_ = static_cast<char*>(
        mmap(nullptr, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(pages_, MAP_FAILED);
    memcpy(pages_ + 4092, "text", 4);
    ASSERT_EQ(mprotect(pages_ + 4096, 4096, PROT_NONE), 0);
  }
  void TearDown() override { munmap(pages_, 2 * 4096); }
  char* pages_;
};

TEST_P(SafeMemoryTest, ReadsWhatIsThere) {
  char text[4];
  ASSERT_TRUE(GetParam()(reinterpret_cast<uintptr_t>(pages_ + 4092), text, 4));
  EXPECT_EQ(memcmp(text, "text", 4), 0);
}

TEST_P(SafeMemoryTest, RefusesWhatIsNot) {
  char text[8];
  munmap(pages_ + 4096, 4096);
  EXPECT_FALSE(GetParam()(reinterpret_cast<uintptr_t>(pages_ + 4096), text, 4));
  EXPECT_FALSE(GetParam()(reinterpret_cast<uintptr_t>(pages_ + 4092), text, 8)) << "half of it";
  EXPECT_FALSE(GetParam()(0, text, 1));
  EXPECT_FALSE(GetParam()(~uintptr_t{0}, text, 1));
}

INSTANTIATE_TEST_SUITE_P(
    Ways, SafeMemoryTest,
    ::testing::Values(static_cast<bool (*)(uintptr_t, void*, size_t) noexcept>(&read_memory),
                      &detail::read_through_proc));

TEST(PythonTest, IsAbsentFromAProgramWithoutOne) {
  EXPECT_EQ(Python::find(), nullptr);
  EXPECT_EQ(Python::present(), nullptr);
}

TEST(BufferSinkTest, CutsToFit) {
  char buffer[6];
  BufferSink sink(buffer, sizeof buffer);
  EXPECT_STREQ(buffer, "");
  sink.write("abc");
  sink.write("defg");
  EXPECT_STREQ(buffer, "abcde");
  EXPECT_EQ(sink.size(), 5u);
}

TEST(FdSinkTest, WritesEverything) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const std::string text(2000, 'x');
  {
    FdSink sink(ends[1]);
    sink.write("start ");
    sink.write(text);
  }
  close(ends[1]);
  std::string got(4096, '\0');
  size_t size = 0;
  for (ssize_t part; (part = read(ends[0], got.data() + size, got.size() - size)) > 0;)
    size += static_cast<size_t>(part);
  got.resize(size);
  EXPECT_EQ(got, "start " + text);
  close(ends[0]);
}

}  // namespace
}  // namespace weft::engine::host
