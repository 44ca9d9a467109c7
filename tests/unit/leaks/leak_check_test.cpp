#include "weft/heap/leak_check.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "weft/channel.hpp"
#include "weft/detail/heap_profile.hpp"
#include "weft/event.hpp"
#include "weft/fiber.hpp"
#include "weft/heap/gtest.hpp"

namespace weft::heap {
namespace {

// The compiler must not see that nobody reads it.
void* lose(void* block) {
  asm volatile("" : : "r"(block) : "memory");
  return block;
}

LeakReport check(const std::function<void()>& function, LeakOptions options = {}) {
  return LeakCheck(std::move(options)).run(function);
}

class LostBlock : public testing::TestWithParam<std::tuple<size_t, int>> {};
TEST_P(LostBlock, IsFound) {
  const auto [size, every] = GetParam();
  int call = 0;
  const LeakReport report = check([&, size = size, every = every] {
    void* const block = lose(malloc(size));
    if (++call % every != 0) free(block);
  });
  EXPECT_TRUE(report.leaks());
  EXPECT_TRUE(report.exact());
  EXPECT_FALSE(report.uncertain());
  EXPECT_NE(report.text().find("grows by"), std::string::npos) << report.text();
}
INSTANTIATE_TEST_SUITE_P(LeakCheck, LostBlock,
                         testing::Combine(testing::Values(1, 16, 64, 4096, 1 << 20),
                                          testing::Values(1, 10, 100)));

TEST(LeakCheck, TellsHowMuchACallLoses) {
  const LeakReport report = check([] { lose(malloc(64)); });
  EXPECT_NE(report.text().find("heap grows by 72."), std::string::npos) << report.text();
  EXPECT_NE(report.text().find("blocks grows by 1 blocks a call"), std::string::npos) << report.text();
  // A block may be a little larger: what would be too small for another stays with it.
  EXPECT_NE(report.text().find("blocks=+200 "), std::string::npos) << report.text();
  EXPECT_NE(report.svg().find("heap (leaks)"), std::string::npos) << report.svg();
}

[[gnu::noinline]] void* forgets_to_free() {
  return lose(malloc(48));
}

TEST(LeakCheck, NamesTheStackThatLosesABlock) {
  int call = 0;
  const LeakReport report = check([&] {
    if (++call % 10 == 0) forgets_to_free();
    free(lose(malloc(100)));
  });
  const size_t at = report.text().find(" bytes in 0.1 blocks a call\n");
  ASSERT_NE(at, std::string::npos) << report.text();
  EXPECT_NE(report.text().find("forgets_to_free", at), std::string::npos) << report.text();
  EXPECT_EQ(check([] { forgets_to_free(); }, {.search = false}).text().find("allocated at"),
            std::string::npos);
}

TEST(LeakCheck, FindsWhatNoSlotLeadsTo) {
  auto* const allocate = reinterpret_cast<void* (*)(size_t)>(dlsym(RTLD_NEXT, "malloc"));
  const LeakReport report = check([&] { lose(allocate(48)); });
  EXPECT_NE(report.text().find("arenas grow and heap does not"), std::string::npos) << report.text();
}

TEST(LeakCheck, DoesNotTakeAProfileAwayThatIsBeingTaken) {
  ASSERT_EQ(weft::detail::heap_profile_begin(), 0);
  const LeakReport report = check([] { forgets_to_free(); });
  EXPECT_TRUE(report.leaks());
  EXPECT_EQ(report.text().find("allocated at"), std::string::npos);
  EXPECT_EQ(weft::detail::heap_profile_begin(), EALREADY);
  weft::detail::heap_profile_end();
}

struct Case {
  const char* name;
  std::function<void()> function;
};
void PrintTo(const Case& one, std::ostream* stream) {
  *stream << one.name;
}

std::mt19937_64 g_random(1);
int between(int least, int most) {
  return std::uniform_int_distribution<int>(least, most)(g_random);
}

std::deque<std::string> g_history;
std::map<int, std::string> g_cache;
std::vector<char> g_grown;

class Clean : public testing::TestWithParam<Case> {};
TEST_P(Clean, FunctionIsNotBlamed) {
  const LeakReport report = check(GetParam().function);
  EXPECT_FALSE(report.leaks()) << report.text();
}
INSTANTIATE_TEST_SUITE_P(
    LeakCheck, Clean,
    testing::Values(
        Case{"Nothing", [] {}},
        Case{"FreesWhatItMakes", [] { free(lose(malloc(static_cast<size_t>(between(1, 100000))))); }},
        Case{"ManySizes",
             [] {
               std::vector<std::string> all;
               for (int i = between(0, 50); i > 0; --i)
                 all.emplace_back(static_cast<size_t>(between(1, 3000)), 'x');
             }},
        Case{"KeepsAHistory",
             [] {
               g_history.emplace_back(static_cast<size_t>(between(16, 1000)), 'x');
               if (g_history.size() > 128) g_history.pop_front();
             }},
        Case{"FillsACache", [] { g_cache[between(0, 3000)] = "something long enough for the heap"; }},
        Case{"GrowsItsBufferOnce",
             [] {
               if (g_grown.size() < 5000) g_grown.resize(g_grown.size() + 50);
             }},
        Case{"MapsAndUnmaps",
             [] { munmap(mmap(nullptr, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1 << 20); }},
        Case{"OpensAndCloses", [] { close(open("/dev/null", O_RDONLY | O_CLOEXEC)); }},
        Case{"Throws",
             [] {
               try {
                 throw std::runtime_error("some text of some length");
               } catch (const std::exception&) {
               }
             }}),
    [](const auto& one) { return std::string(one.param.name); });

TEST(LeakCheck, FindsWhatOnlyTheErrorPathLeaks) {
  const auto parse = [](const char* text) {
    auto* const copy = static_cast<char*>(lose(strdup(text)));
    if (*copy == '!') throw std::invalid_argument("no");
    free(copy);
  };
  EXPECT_FALSE(check([&] { parse("fine"); }).leaks());
  EXPECT_TRUE(check([&] {
                try {
                  parse("! and some more");
                } catch (const std::invalid_argument&) {
                }
              }).leaks());
}

TEST(LeakCheck, FindsWhatAThreadLeavesThatEnds) {
  EXPECT_TRUE(check([] { std::thread([] { lose(malloc(64)); }).join(); }, {.times = 20}).leaks());
  EXPECT_FALSE(check([] { std::thread([] { free(lose(malloc(64))); }).join(); }, {.times = 20}).leaks());
}

TEST(LeakCheck, FindsALostMapping) {
  std::vector<void*> lost;
  lost.reserve(1 << 20);
  const LeakReport report =
      check([&] { lost.push_back(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)); });
  EXPECT_NE(report.text().find("mapped grows by 4096 bytes a call"), std::string::npos) << report.text();
  for (void* const mapping : lost) munmap(mapping, 4096);
}

TEST(LeakCheck, FindsABufferThatGrowsForEver) {
  std::vector<char> kept;
  EXPECT_TRUE(check([&] { kept.resize(kept.size() + 8); }).leaks());
}

TEST(LeakCheck, NamesADescriptorThatIsLeft) {
  std::vector<int> left;
  const LeakReport report = check([&] { left.push_back(open("/dev/null", O_RDONLY | O_CLOEXEC)); });
  EXPECT_EQ(report.text(), "a call leaves 1 descriptor:\n* fd " + std::to_string(left[0]) + ": /dev/null\n");
  EXPECT_EQ(left.size(), 3u);
  for (const int fd : left) close(fd);
}

TEST(LeakCheck, DoesNotBlameForWhatIsOpenedOnce) {
  int fd = -1;
  EXPECT_FALSE(check([&] {
                 if (fd < 0) fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
               }).leaks());
  close(fd);
}

TEST(LeakCheck, IsNotMisledByWhatIsOpenedOnceBesides) {
  int fd = -1;
  const LeakReport report = check([&] {
    if (fd < 0) fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fork() == 0) _exit(0);
  });
  EXPECT_NE(report.text().find("a call leaves 1 child process:\n"), std::string::npos) << report.text();
  while (wait(nullptr) > 0) continue;
  close(fd);
}

TEST(LeakCheck, NamesChildrenNotWaitedFor) {
  const LeakReport report = check([] {
    if (fork() == 0) _exit(0);
  });
  EXPECT_NE(report.text().find("a call leaves 1 child process:\n"), std::string::npos) << report.text();
  while (wait(nullptr) > 0) continue;
}

TEST(LeakCheck, NamesFibersThatWaitForEver) {
  Event never;
  std::vector<Fiber<void>> fibers;
  const LeakReport report = check([&] { fibers.push_back(spawn([&] { never.wait(); }, {.name = "stuck"})); });
  EXPECT_NE(report.text().find(": stuck"), std::string::npos) << report.text();
  never.set();
  for (auto& fiber : fibers) fiber.join();
}

TEST(LeakCheck, LooksAtOurOwnCallsToo) {
  EXPECT_NO_LEAK({ spawn([] {}).join(); });
  Channel<int> channel(4);
  EXPECT_NO_LEAK({
    channel.send(1);
    channel.receive();
  });
}

TEST(LeakCheck, LetsExceptionsThrough) {
  EXPECT_THROW(check([] { throw std::runtime_error("no"); }), std::runtime_error);
  int calls = 0;
  EXPECT_THROW(check([&] {
                 if (++calls > 100) throw std::runtime_error("no");
               }),
               std::runtime_error);
  EXPECT_FALSE(check([] {}).leaks());
}

TEST(LeakCheck, RefusesOptionsOutOfRange) {
  EXPECT_THROW(LeakCheck({.warm_up = -1}), std::invalid_argument);
  EXPECT_THROW(LeakCheck({.times = 0}), std::invalid_argument);
  EXPECT_THROW(LeakCheck({.runs = 0}), std::invalid_argument);
  EXPECT_THROW(LeakCheck({.limit = std::chrono::seconds(0)}), std::invalid_argument);
  EXPECT_THROW(LeakCheck({.memory_limit = 0}), std::invalid_argument);
  EXPECT_THROW(LeakCheck({.call_limit = std::chrono::seconds(0)}), std::invalid_argument);
}

TEST(LeakCheck, ToleratesWhatItIsTold) {
  EXPECT_FALSE(check([] { lose(malloc(64)); }, {.tolerance = 200 * 80}).leaks());
}

TEST(LeakCheck, TellsOfItsProgress) {
  std::vector<std::string> lines;
  lines.reserve(100);
  uint64_t calls = 0;
  LeakOptions options;
  options.progress = [&](const LeakProgress& progress) {
    EXPECT_EQ(progress.runs, static_cast<int>(lines.size()) + 1);
    calls = progress.calls;
    lines.push_back(progress.line);
  };
  const LeakReport report = check([] { lose(malloc(64)); }, options);
  EXPECT_GE(lines.size(), 10u);
  EXPECT_EQ(calls, report.calls());
  for (const std::string& line : lines) EXPECT_NE(report.text().find(line), std::string::npos) << line;
  options.progress = [](const LeakProgress&) { throw std::runtime_error("enough"); };
  EXPECT_THROW(check([] {}, options), std::runtime_error);
}

TEST(LeakCheck, TellsOfACallThatDoesNotReturn) {
  testing::internal::CaptureStderr();
  const LeakOptions options{.warm_up = 0,
                            .times = 1,
                            .runs = 1,
                            .limit = std::chrono::milliseconds(1),
                            .call_limit = std::chrono::milliseconds(100)};
  bool first = true;
  check(
      [&] {
        if (std::exchange(first, false)) std::this_thread::sleep_for(std::chrono::milliseconds(400));
      },
      options);
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(text.find("a call has not returned for 0.1 s"), text.rfind("a call has not returned")) << text;
  EXPECT_NE(text.find("(LeakOptions::call_limit)"), std::string::npos) << text;
}

TEST(LeakCheck, SaysNothingOfManyCallsThatReturn) {
  testing::internal::CaptureStderr();
  check([] { std::this_thread::sleep_for(std::chrono::milliseconds(10)); },
        {.times = 10,
         .limit = std::chrono::milliseconds(700),
         .call_limit = std::chrono::milliseconds(300),
         .resources = {}});
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(LeakCheck, FailsATestByItsMacro) {
  EXPECT_NONFATAL_FAILURE(EXPECT_NO_LEAK({ lose(malloc(16)); }), "heap grows by 24.");
  EXPECT_NO_LEAK({ free(lose(malloc(16))); });
}

}  // namespace
}  // namespace weft::heap
