#include "heap/exponential.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace weft::heap {
namespace {

TEST(Exponential, IsThatOfLibm) {
  for (double x = 1e-300; x < 1e300; x *= 1.37) {
    const double right = std::log(x);
    EXPECT_NEAR(natural_logarithm(x), right, 1e-14 * std::max(1.0, std::fabs(right))) << x;
  }
  for (double x = 1e-12; x < 100; x *= 1.07) {
    const double right = std::expm1(-x);
    EXPECT_NEAR(exponential_less_one(x), right, 1e-14 * std::fabs(right)) << x;
  }
  EXPECT_EQ(exponential_less_one(0), 0);
  EXPECT_EQ(natural_logarithm(1), 0);
}

}  // namespace
}  // namespace weft::heap
