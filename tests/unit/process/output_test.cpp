#include "process/output.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace weft::process {
namespace {

std::string read_from(const Output& output, uint64_t& position, size_t size, bool& ended) {
  std::string text(size, 0);
  text.resize(output.read(position, text.data(), size, ended));
  return text;
}

std::string numbered(size_t size) {
  std::string text;
  for (size_t i = 0; text.size() < size; ++i) text += std::to_string(i) + " ";
  text.resize(size);
  return text;
}

TEST(Output, GivesBackWhatFits) {
  Output output(1 << 20);
  output.append("abc", 3);
  output.append("def", 3);
  uint64_t position = 0;
  bool ended = true;
  EXPECT_EQ(read_from(output, position, 4, ended), "abcd");
  EXPECT_EQ(position, 4u);
  EXPECT_FALSE(ended);
  EXPECT_EQ(read_from(output, position, 10, ended), "ef");
  EXPECT_FALSE(ended);
  output.finish();
  EXPECT_EQ(read_from(output, position, 10, ended), "");
  EXPECT_TRUE(ended);
}

TEST(Output, TellsTheEndWithTheLastBytes) {
  Output output(4096);
  output.append("abc", 3);
  output.finish();
  uint64_t position = 0;
  bool ended = true;
  EXPECT_EQ(read_from(output, position, 2, ended), "ab");
  EXPECT_FALSE(ended);
  EXPECT_EQ(read_from(output, position, 2, ended), "c");
  EXPECT_TRUE(ended);
}

TEST(Output, KeepsTheLastBytesOnly) {
  Output output(4096);
  const std::string text = numbered(10'000);
  output.append(text.data(), text.size());
  uint64_t first = 0;
  EXPECT_EQ(output.end(first), 10'000u);
  EXPECT_EQ(first, 10'000u - 4096u);
  uint64_t position = 0;
  bool ended = false;
  EXPECT_EQ(read_from(output, position, 20'000, ended), text.substr(10'000 - 4096));
  EXPECT_EQ(position, 10'000u);
}

TEST(Output, AReaderThatIsLateGoesOnWithTheOldestByte) {
  Output output(4096);
  const std::string text = numbered(6000);
  output.append(text.data(), 100);
  uint64_t position = 0;
  bool ended = false;
  EXPECT_EQ(read_from(output, position, 50, ended), text.substr(0, 50));
  output.append(text.data() + 100, 5900);
  EXPECT_EQ(read_from(output, position, 10, ended), text.substr(6000 - 4096, 10));
  EXPECT_EQ(position, 6000u - 4096u + 10u);
}

// Every limit, and sizes about it, against a string of all that was written: growth, and wrapping at each
// place.
TEST(Output, IsAWindowOfTheStream) {
  std::mt19937 random(20240611);
  for (const size_t limit :
       {size_t{1}, size_t{4096}, size_t{5000}, size_t{8192}, size_t{20'000}, size_t{100'003}}) {
    Output output(limit);
    const size_t kept = std::max<size_t>(limit, 4096);
    std::string all;
    uint64_t reader = 0;
    for (int round = 0; round < 400; ++round) {
      const size_t size = random() % (round % 50 == 0 ? 3 * kept : 700);
      const std::string chunk = numbered(size + random() % 7).substr(0, size);
      output.append(chunk.data(), chunk.size());
      all += chunk;
      uint64_t first = 0;
      ASSERT_EQ(output.end(first), all.size());
      ASSERT_EQ(first, all.size() > kept ? all.size() - kept : 0) << "limit " << limit;
      bool ended = false;
      uint64_t position = first;
      ASSERT_EQ(read_from(output, position, kept, ended), all.substr(first)) << "limit " << limit;
      const uint64_t from = std::max(reader, first);
      const size_t wanted = random() % 900;
      ASSERT_EQ(read_from(output, reader, wanted, ended), all.substr(from, wanted));
    }
  }
}

}  // namespace
}  // namespace weft::process
