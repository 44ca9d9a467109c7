// How the settings of `weft run` reach the program: through the environment, which passes through shells and
// exec chains to the first process that is to run under Weft.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/settings.hpp"

namespace weft::engine::environment {

/// The preload library's file name, by which its entry in LD_PRELOAD is known.
inline constexpr std::string_view kPreloadName = "libweft-preload.so";

/// Reads the WEFT_ variables into `settings`; empty ones count as unset. Returns what is wrong with the first
/// bad value, with `settings` as far as it was read; empty if all is well.
std::string read(Settings& settings);

/// True if the variable, unset or not, is one of those that read() looks at.
bool is_setting(std::string_view variable) noexcept;

/// `environment` ("NAME=VALUE" strings, null-terminated) with `settings` in it and `preload`, a path, before
/// the other entries of LD_PRELOAD.
std::vector<std::string> with_weft(const char* const* environment, const Settings& settings,
                                   const std::string& preload);

/// Takes out of this process's environment what with_weft() put into it. Allocates nothing, so that a
/// preloaded library's constructor may call it. REQUIRES: no other thread uses the environment.
void withdraw() noexcept;

}  // namespace weft::engine::environment
