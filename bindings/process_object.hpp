// What the bindings of weft.process share.
#pragma once

#include <algorithm>

#include "python.hpp"
#include "weft/detail/process.hpp"

namespace weft::python {

/// Clamped to 0 to 9e9 seconds. REQUIRES: no NaN.
inline Nanos nanos_of(double seconds) {
  return static_cast<Nanos>(std::clamp(seconds, 0.0, 9e9) * 1e9);
}

/// _Pattern: a regular expression, looked for by C++.
class PatternObject {
 public:
  /// Raises ValueError if it is wrong.
  PatternObject(nb::bytes text, uint32_t flags);
  ~PatternObject() { detail::free_pattern(pattern_); }
  PatternObject(const PatternObject&) = delete;
  PatternObject& operator=(const PatternObject&) = delete;
  const detail::Pattern* get() const noexcept { return pattern_; }

 private:
  detail::Pattern* pattern_;
};

/// weft.process.Ready's view of one start of `child`; `ready` is one of those. A new reference.
nb::object watch_readiness(nb::handle ready, detail::Child* child);

}  // namespace weft::python
