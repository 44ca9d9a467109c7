#include "leaks/slope.hpp"

#include <algorithm>
#include <array>
#include <limits>

namespace weft::leaks {

namespace {

constexpr size_t kMostPairs = kMostPoints * (kMostPoints - 1) / 2;

double median(std::span<double> sorted) noexcept {
  const size_t half = sorted.size() / 2;
  return sorted.size() % 2 != 0 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

// How many of the lowest slopes may be left out: the greatest k with P(fewer than k pairs in disorder) <=
// error, where all orders of `points` values are equally probable. The number of orders with k pairs in
// disorder follows from those of one value less: the last value stands before 0 to points - 1 of the others.
size_t left_out(size_t points, double error) noexcept {
  std::array<double, kMostPairs + 1> share{1};
  size_t most = 0;
  for (size_t n = 2; n <= points; ++n) {
    std::array<double, kMostPairs + 1> next{};
    for (size_t k = 0; k <= most; ++k)
      for (size_t before = 0; before < n; ++before) next[k + before] += share[k] / static_cast<double>(n);
    most += n - 1;
    share = next;
  }
  double sum = 0;
  for (size_t k = 0; k <= most; ++k) {
    sum += share[k];
    if (sum > error) return k;
  }
  return most;
}

}  // namespace

Slope slope_of(std::span<const double> x, std::span<const double> y, double error) noexcept {
  std::array<double, kMostPairs> slopes;
  size_t pairs = 0;
  for (size_t i = 0; i < x.size(); ++i)
    for (size_t j = i + 1; j < x.size(); ++j) slopes[pairs++] = (y[j] - y[i]) / (x[j] - x[i]);
  const std::span sorted(slopes.data(), pairs);
  std::sort(sorted.begin(), sorted.end());

  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  const size_t out = left_out(x.size(), error);
  if (out == 0) return {median(sorted), -kInfinite, kInfinite};
  return {median(sorted), sorted[out - 1], sorted[pairs - out]};
}

}  // namespace weft::leaks
