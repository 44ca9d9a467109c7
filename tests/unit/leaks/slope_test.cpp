#include "leaks/slope.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <vector>

namespace weft::leaks {
namespace {

std::vector<double> numbers(size_t count) {
  std::vector<double> x(count);
  std::iota(x.begin(), x.end(), 0.0);
  return x;
}

TEST(Slope, OfALineIsItsOwn) {
  const auto x = numbers(10);
  std::vector<double> y;
  for (const double at : x) y.push_back(3 * at - 7);
  const Slope slope = slope_of(x, y, 1e-4);
  EXPECT_DOUBLE_EQ(slope.estimate, 3);
  EXPECT_DOUBLE_EQ(slope.low, 3);
  EXPECT_DOUBLE_EQ(slope.high, 3);
}

TEST(Slope, IsNotMovedByTwoWildPointsOfTen) {
  const auto x = numbers(10);
  std::vector<double> y;
  for (const double at : x) y.push_back(3 * at);
  y[2] = 1e9;
  y[8] = -1e9;
  EXPECT_DOUBLE_EQ(slope_of(x, y, 1e-4).estimate, 3);
}

// 1/7! is 0.0002, 1/8! is 0.000025.
TEST(Slope, HasNoBoundsFromTooFewPoints) {
  const std::vector<double> y{1, 2, 3, 4, 5, 6, 7, 8};
  const auto x = numbers(8);
  const auto bounds = [&](size_t points, double error) {
    return slope_of(std::span(x).first(points), std::span(y).first(points), error);
  };
  EXPECT_TRUE(std::isinf(bounds(7, 1e-4).low));
  EXPECT_TRUE(std::isinf(bounds(7, 1e-4).high));
  EXPECT_DOUBLE_EQ(bounds(7, 1e-3).low, 1);
  EXPECT_DOUBLE_EQ(bounds(8, 1e-4).low, 1);
}

// Kendall's statistic takes whole numbers, so that of the rate asked for only a part is used: 0.0286 of 0.05
// with eight points, from the published tables.
TEST(Slope, BoundsMissNoMoreOftenThanAskedFor) {
  std::mt19937_64 random(1);
  std::normal_distribution<double> noise;
  const auto x = numbers(8);
  std::vector<double> y(8);
  constexpr int kSeries = 40000;
  int above = 0, below = 0;
  for (int i = 0; i < kSeries; ++i) {
    for (double& at : y) at = noise(random);
    const Slope slope = slope_of(x, y, 0.05);
    above += slope.low > 0;
    below += slope.high < 0;
  }
  EXPECT_NEAR(above, 0.031 * kSeries, 0.004 * kSeries);
  EXPECT_NEAR(below, 0.031 * kSeries, 0.004 * kSeries);
}

}  // namespace
}  // namespace weft::leaks
