// Thread-specific data of fibers.
#pragma once

#include "fiber/fiber.hpp"

namespace weft::engine::interpose {

/// Calls the destructors of what `fiber`, which runs and is about to end, holds under keys.
void run_key_destructors(Fiber& fiber) noexcept;

}  // namespace weft::engine::interpose
