// Logarithm and exponential for sampling, so that the library does not bring libm into every process.
#pragma once

#include <bit>
#include <cstdint>

namespace weft::heap {

/// ln(x), to 1e-14 of its value or of 1. By the series of artanh, for a mantissa from sqrt(1/2) to sqrt(2):
/// Abramowitz and Stegun 4.1.27. REQUIRES: x is normal and positive.
inline double natural_logarithm(double x) noexcept {
  const auto bits = std::bit_cast<uint64_t>(x);
  auto exponent = static_cast<double>(static_cast<int64_t>(bits >> 52) - 1023);
  auto mantissa = std::bit_cast<double>((bits & 0x000f'ffff'ffff'ffff) | 0x3ff0'0000'0000'0000);
  if (mantissa > 1.4142135623730951) {
    mantissa /= 2;
    ++exponent;
  }
  const double z = (mantissa - 1) / (mantissa + 1);
  double sum = 0;
  for (int power = 19; power > 0; power -= 2) sum = sum * z * z + 1.0 / power;
  return exponent * 0.6931471805599453 + 2 * z * sum;
}

/// exp(-x) - 1, to 1e-14 of its value: Taylor's series for a small x, and exp(2y) - 1 = (exp(y) - 1)(exp(y) +
/// 1) from there on. REQUIRES: x >= 0.
inline double exponential_less_one(double x) noexcept {
  if (x > 50) return -1;
  int doublings = 0;
  for (; x > 0.25; x /= 2) ++doublings;
  double sum = 0;
  for (int n = 14; n > 0; --n) sum = (1 + sum) * -x / n;
  for (; doublings > 0; --doublings) sum *= sum + 2;
  return sum;
}

}  // namespace weft::heap
