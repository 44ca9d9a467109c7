// fork and vfork.
#include <cerrno>

#include "fiber/thread_state.hpp"
#include "interpose/calls.hpp"
#include "interpose/support.hpp"
#include "runtime/runtime.hpp"

namespace weft::engine::interpose {

// Called by weft_vfork in the child and then in the parent, which was suspended meanwhile. The two share
// memory: what the child noted here is still there for the parent to take back.
extern "C" [[gnu::visibility("hidden")]] long weft_vfork_returned(long result) noexcept {
  ThreadState& thread = thread_state();
  if (result == 0) {
    ++thread.no_switch;
    thread.in_vfork_child = true;
  } else if (result > 0) {
    --thread.no_switch;
    thread.in_vfork_child = false;
  } else {
    return fail(static_cast<int>(-result));
  }
  return result;
}

// For fork, forkpty and daemon libc runs the handlers that rebuild the engine in the child, which
// Runtime::start has registered; for this one it does not.
pid_t routed::_Fork() noexcept {
  const pid_t child = real::_Fork();
  if (child == 0) Runtime::after_fork_in_child();
  return child;
}

}  // namespace weft::engine::interpose
