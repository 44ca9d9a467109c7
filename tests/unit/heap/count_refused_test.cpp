// Runs with count_interposer.cpp preloaded.
#include <gtest/gtest.h>

#include <cerrno>

#include "weft/detail/heap_count.hpp"
#include "weft/detail/heap_profile.hpp"

namespace {

using namespace weft::detail;

TEST(HeapCountRefused, WhereAnotherLibraryAllocates) {
  EXPECT_EQ(heap_count_begin(), ENOTSUP);
  heap_count_end();
  EXPECT_EQ(heap_profile_begin(), ENOTSUP);
  heap_profile_end();
  delete new int;
  EXPECT_EQ(heap_counts().made, 0u);
}

}  // namespace
