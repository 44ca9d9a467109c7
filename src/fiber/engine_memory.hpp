// Memory for what the scheduler itself frees.
//
// The program's malloc will not do: it may be another than libc's, whose locks are routed. A fiber that
// waited for one in the middle of a switch would lose the wake-up that it had already announced to wait for.
#pragma once

#include <cstddef>

namespace weft::engine {

/// At least `size` bytes, zeroed, aligned as malloc's; null: no memory. Any thread; never suspends. Given
/// back with engine_free(), and the same size, to be given out again: it does not return to the kernel.
void* engine_allocate(size_t size) noexcept;
void engine_free(void* memory, size_t size) noexcept;

}  // namespace weft::engine
