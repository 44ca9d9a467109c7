// Where the random programs of the tests come from.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <string>

namespace weft::test {

/// Calls test(random) for each of `rounds` seeds until one fails. A failure names its seed; with WEFT_SEED
/// set, that round comes first.
template <typename Test>
void for_each_seed(unsigned rounds, Test&& test) {
  const char* given = std::getenv("WEFT_SEED");
  const unsigned first =
      given ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : std::random_device()();
  for (unsigned round = 0; round < rounds && !testing::Test::HasFailure(); ++round) {
    SCOPED_TRACE("WEFT_SEED=" + std::to_string(first + round));
    std::mt19937 random(first + round);
    test(random);
  }
}

}  // namespace weft::test
