// The profile as its writers see it.
#pragma once

#include "heap/profile_table.hpp"

namespace weft::heap {

/// A copy of what was found until now. False: no memory. REQUIRES: a HeapProfilePause lives.
bool copy_profile(ProfileRecord& record) noexcept;

/// Takes the lock that a sample is put down under, around a fork; reset: in the child.
void lock_profile() noexcept;
void unlock_profile() noexcept;

}  // namespace weft::heap
