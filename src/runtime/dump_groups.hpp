// Fibers that a dump need tell of only once.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/dump.hpp"
#include "runtime/dump_snapshot.hpp"

namespace weft::engine::dump {

/// Fibers with the same stacks that wait in the same call for the same holder: never empty, in the order of
/// the snapshot. Descriptor, address and duration of their waits may differ.
using Group = std::vector<const FiberRecord*>;

/// What is compared of a fiber's native stack.
using StackKey = std::vector<uintptr_t>;

/// All fibers of `snapshot`, in groups that are ordered by their first fibers; with Form::kAll each by
/// itself. Throws std::bad_alloc, and what `key_of` throws.
std::vector<Group> group_fibers(const Snapshot& snapshot, Form form,
                                const std::function<StackKey(const FiberRecord&)>& key_of);

}  // namespace weft::engine::dump
