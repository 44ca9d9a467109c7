#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "weft/heap/profile.hpp"

namespace weft::heap {
namespace {

[[gnu::noinline]] void* allocates(size_t size) {
  void* const block = malloc(size);
  asm volatile("" : : "r"(block) : "memory");
  return block;
}

double live_bytes_of(const Profile& profile, const std::string& function) {
  double bytes = 0;
  for (const Site& site : profile.sites())
    for (const Frame& frame : site.frames)
      if (frame.function.find(function) != std::string::npos) {
        bytes += site.live_bytes;
        break;
      }
  return bytes;
}

TEST(PublicProfile, HasWhatIsAliveByItsStack) {
  std::vector<void*> blocks;
  blocks.reserve(100);
  Profile profile({.interval = 1});
  for (int i = 0; i < 100; ++i) blocks.push_back(allocates(1000));
  const double all = live_bytes_of(profile, "allocates");
  EXPECT_GE(all, 100'000);
  EXPECT_LT(all, 105'000);
  for (int i = 0; i < 50; ++i) free(blocks[static_cast<size_t>(i)]);
  EXPECT_NEAR(live_bytes_of(profile, "allocates"), all / 2, 1000);
  profile.stop();
  for (int i = 50; i < 100; ++i) free(blocks[static_cast<size_t>(i)]);
  EXPECT_NEAR(live_bytes_of(profile, "allocates"), all / 2, 1000);  // it was over by then
}

TEST(PublicProfile, IsOneAtATime) {
  {
    const Profile first;
    EXPECT_THROW(Profile{}, std::system_error);
  }
  Profile second;
  second.stop();
  const Profile third;
}

TEST(PublicProfile, IsWrittenOrSaysWhyNot) {
  const Profile profile({.interval = 1});
  free(allocates(10));
  char path[] = "/tmp/weft-profile-XXXXXX";
  close(mkstemp(path));
  profile.write_svg(path, Measure::kMadeBytes, "Everything");
  std::string first;
  std::getline(std::ifstream(path) >> std::ws, first);
  EXPECT_NE(first.find('<'), std::string::npos);
  profile.write_pprof(path);
  EXPECT_GT(std::ifstream(path, std::ios::ate).tellg(), 100);
  unlink(path);
  EXPECT_THROW(profile.write_pprof("/nowhere/at/all"), std::system_error);
}

}  // namespace
}  // namespace weft::heap
