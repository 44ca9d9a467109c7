#include "weft/detail/interpreter.hpp"

#include <cerrno>

#include "fiber/native_thread.hpp"
#include "interpose/scope.hpp"
#include "interpose/threads.hpp"
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
    if (!engine::interpose::started_runtime()) {
      const int error = errno;
      engine::interpose::release_hold();
      return error;
    }
  } else {
    engine::interpose::hold();
  }
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

Interruptible::Interruptible() noexcept : fiber_(engine::Carrier::running_fiber()) {
  auto* fiber = static_cast<engine::Fiber*>(fiber_);
  if (fiber)
    former_ =
        std::exchange(fiber->library_flags,
                      fiber == &fiber->carrier().main_fiber() ? uint8_t{engine::kInterruptible} : uint8_t{0});
}

Interruptible::~Interruptible() {
  if (fiber_) static_cast<engine::Fiber*>(fiber_)->library_flags = former_;
}

void stay() noexcept {
  for (;;) {
    std::atomic<uint32_t> never{0};
    if (engine::Fiber* fiber = switchable_fiber())
      fiber->carrier().sleep_until(kNever, engine::kUninterruptible, "the end of the process");
    else
      engine::sys::futex_wait(&never, 0);
  }
}

int start_os_thread(const char* name, void* (*entry)(void*), void* argument) noexcept {
  pthread_t thread;
  const int error = engine::start_native_thread(thread, name, entry, argument);
  if (error == 0) pthread_detach(thread);
  return error;
}

Outcome with_revocable_semaphore(const void* semaphore, void (*call)(void* argument),
                                 void* argument) noexcept {
  engine::Fiber* fiber = engine::Carrier::running_fiber();
  engine::Fiber::SemaphoreWait wait{semaphore};
  engine::Fiber::SemaphoreWait* outer = nullptr;
  if (fiber) outer = std::exchange(fiber->semaphore_wait, &wait);
  call(argument);
  if (fiber) fiber->semaphore_wait = outer;
  return outcome_of(wait.outcome);
}

const char* library_version() noexcept {
  return WEFT_VERSION;
}

}  // namespace weft::detail
