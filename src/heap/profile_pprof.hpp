// pprof's format.
#pragma once

#include <string>

#include "heap/profile_table.hpp"

namespace weft::heap {

/// The record as a `perftools.profiles.Profile` (pprof, proto/profile.proto), not compressed. Throws
/// std::bad_alloc.
std::string to_pprof(const ProfileRecord& record);

}  // namespace weft::heap
