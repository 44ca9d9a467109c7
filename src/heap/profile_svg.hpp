// A flame graph.
#pragma once

#include <string>
#include <string_view>

#include "heap/profile_table.hpp"

namespace weft::heap {

/// The record as an SVG: a box for each function in each context, as wide as what it and all that it called
/// hold; callers below. Throws std::bad_alloc.
std::string to_svg(const ProfileRecord& record, detail::HeapMeasure measure, std::string_view title);

}  // namespace weft::heap
