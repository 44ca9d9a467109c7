// What a leak test tells people.
#pragma once

#include <string>

#include "leaks/trial.hpp"

namespace weft::leaks {

/// The run's line of the table: "Run # 1: heap=+4800 | blocks=+200 | (calls= 200, avg/call=+24)". Without a
/// line's end. What did not grow is left out.
std::string run_line(const weft::detail::LeakTrial& trial, int run);

/// The lines of all runs, and for each figure that leaks how much it grew per call, with its bounds.
std::string table(const weft::detail::LeakTrial& trial);

/// The growth over the calls, a curve for each figure that grew, as an SVG document.
std::string growth_svg(const weft::detail::LeakTrial& trial, const std::string& title);

}  // namespace weft::leaks
