// The slope of a series of points, with bounds that hold whatever the distribution of the noise.
#pragma once

#include <cstddef>
#include <span>

namespace weft::leaks {

struct Slope {
  double estimate = 0;
  double low = 0, high = 0;  ///< it lies between, but for the error rate asked for on either side
};

/// The most points slope_of() takes.
inline constexpr size_t kMostPoints = 32;

/// Theil's estimate: the median slope of all pairs of points, of which up to 29 % may be as wrong as they
/// like. The bounds are Sen's, from the exact distribution of Kendall's statistic: without a trend, and with
/// noise that is independent from point to point, `low` exceeds 0 in at most the share `error` of all series.
/// Too few points for that (7 for 0.001, 8 for 0.0001): the bounds are infinite. Theil 1950; Sen, "Estimates
/// of the regression coefficient based on Kendall's tau", JASA 63 (1968).
///
/// REQUIRES: `x` ascends; as many of both, 2 to kMostPoints.
Slope slope_of(std::span<const double> x, std::span<const double> y, double error) noexcept;

}  // namespace weft::leaks
