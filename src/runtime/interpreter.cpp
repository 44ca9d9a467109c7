#include "weft/detail/interpreter.hpp"

#include <cerrno>

#include "interpose/scope.hpp"
#include "runtime/runtime.hpp"
#include "sync/wake.hpp"

namespace weft::detail {

namespace {

constinit std::atomic<void (*)(Outcome) noexcept> g_hook{nullptr};

}  // namespace

int start_for_interpreter() noexcept try {
  if (!engine::Runtime::get()) {
    if (engine::sys::thread_id() != engine::sys::call(SYS_getpid)) return EPERM;
    if (const int error = engine::interpose::hold()) return error;
    if (const int error = engine::interpose::start_for_interpreter()) {
      engine::interpose::release_hold();
      return error;
    }
  } else {
    engine::interpose::hold();
  }
  engine::Runtime::get()->carrier().main_fiber().library_flags = engine::kInterruptible;
  return 0;
} catch (const std::bad_alloc&) {
  return ENOMEM;
}

void set_revocation_hook(void (*hook)(Outcome) noexcept) noexcept {
  g_hook.store(hook, std::memory_order_release);
  engine::set_revocation_hook(hook ? [](engine::Wake wake) noexcept {
    if (const auto present = g_hook.load(std::memory_order_acquire)) present(outcome_of(wake));
  } : static_cast<void (*)(engine::Wake) noexcept>(nullptr));
}

uint64_t fiber_id() noexcept {
  const engine::Fiber* fiber = engine::Carrier::running_fiber();
  return fiber ? fiber->id() : 0;
}

const char* library_version() noexcept {
  return WEFT_VERSION;
}

}  // namespace weft::detail
