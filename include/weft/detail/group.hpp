// The untyped core of task groups.
#pragma once

#include "weft/detail/task.hpp"

namespace weft::detail {

class GroupCore;

/// A group of which the calling fiber is the owner. Null if there is no memory.
WEFT_API GroupCore* group_create() noexcept;
/// Members that have not ended go on, and how they end matters to nobody.
WEFT_API void group_destroy(GroupCore& group) noexcept;

/// `task` has been started. Once the group is cancelled, so is every task that is added.
WEFT_API bool group_add(GroupCore& group, Task& task) noexcept;
/// Cancels all that have not ended, and lets cancellable waits of the owner end, if it waits within the
/// group.
WEFT_API void group_cancel(GroupCore& group) noexcept;
WEFT_API bool group_cancelled(const GroupCore& group) noexcept;

/// Waits until all have ended. Where the owner's wait is revoked it cancels the others, and waits all the
/// same. On the owner. Returns kReady, kCancelled or kExpired.
WEFT_API Outcome group_join(GroupCore& group) noexcept;
/// Calls visit(argument, task) for each task that ended by an exception, in that order.
WEFT_API void group_failures(GroupCore& group, void (*visit)(void* argument, Task& task),
                             void* argument) noexcept;

}  // namespace weft::detail
