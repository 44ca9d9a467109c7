#include "runtime/brief_stack.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace weft::engine::dump {
namespace {

// Each character is a frame. Repetitions come out as "(LENGTHxTIMES)", what is left out as "(N)".
std::string brief(const std::string& stack) {
  std::vector<Frame> frames;
  for (const char c : stack) frames.push_back({static_cast<uintptr_t>(c), false});
  BriefStack brief(frames.data(), frames.size());
  std::string text;
  for (BriefStack::Item item; brief.next(item);) {
    if (item.kind == BriefStack::Item::Kind::kFrame)
      text += stack[item.index];
    else if (item.kind == BriefStack::Item::Kind::kSkipped)
      text += "(" + std::to_string(item.frames) + ")";
    else
      text += "(" + std::to_string(item.frames) + "x" + std::to_string(item.times) + ")";
  }
  return text;
}

std::string unlike(size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += static_cast<char>(1 + i);
  return text;
}

TEST(BriefStack, LeavesShortOnesAlone) {
  EXPECT_EQ(brief(""), "");
  EXPECT_EQ(brief("abc"), "abc");
  EXPECT_EQ(brief("abab"), "abab");
  EXPECT_EQ(brief("aab"), "aab");
  EXPECT_EQ(brief(unlike(36)), unlike(36));
}

TEST(BriefStack, TellsOfARecursionOnce) {
  EXPECT_EQ(brief("xaaaay"), "xa(1x3)y");
  EXPECT_EQ(brief("x" + std::string(2000, 'a')), "xa(1x1999)");
  EXPECT_EQ(brief("xabcabcabcaby"), "xabc(3x2)aby");
  EXPECT_EQ(brief("abcabc"), "abc(3x1)");
}

TEST(BriefStack, TellsOfOneRecursionBehindTheOther) {
  EXPECT_EQ(brief("aaaaabbbbbb"), "a(1x4)b(1x5)");
  EXPECT_EQ(brief("abcabcabcddddd"), "abc(3x2)d(1x4)");
}

TEST(BriefStack, LeavesTheMiddleOut) {
  const std::string all = unlike(100);
  EXPECT_EQ(brief(all), all.substr(0, BriefStack::kFirst) + "(" +
                            std::to_string(100 - BriefStack::kFirst - BriefStack::kLast) + ")" +
                            all.substr(100 - BriefStack::kLast));
}

TEST(BriefStack, CountsWhatItLeavesOutInFrames) {
  const std::string head = unlike(30), tail = "opqrstuvwxyz";
  EXPECT_EQ(brief(head + std::string(1000, 'A') + tail),
            head.substr(0, BriefStack::kFirst) + "(1006)" + tail);
}

}  // namespace
}  // namespace weft::engine::dump
