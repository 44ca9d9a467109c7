// Leak tests for GoogleTest.
#pragma once

#include <gtest/gtest.h>

#include "weft/heap/leak_check.hpp"

namespace weft::heap {

namespace detail {

template <std::invocable<> Function>
testing::AssertionResult no_leak(const LeakOptions& options, Function&& function) {
  const LeakReport report = LeakCheck(options).run(function);
  if (!report.leaks()) return testing::AssertionSuccess();
  return testing::AssertionFailure() << report.text();
}

}  // namespace detail
}  // namespace weft::heap

/// Fails where the block leaks: EXPECT_NO_LEAK({ parse("[]"); }); It is called some thousands of times, see
/// LeakCheck. It refers to the test's variables; assertions in it hold for each call.
#define EXPECT_NO_LEAK(...) EXPECT_TRUE(::weft::heap::detail::no_leak({}, [&]() __VA_ARGS__))
#define ASSERT_NO_LEAK(...) ASSERT_TRUE(::weft::heap::detail::no_leak({}, [&]() __VA_ARGS__))
/// The same with a LeakOptions: EXPECT_NO_LEAK_WITH(options, { parse("[]"); });
#define EXPECT_NO_LEAK_WITH(options, ...) \
  EXPECT_TRUE(::weft::heap::detail::no_leak((options), [&]() __VA_ARGS__))
