// The machine context of a fiber, and what sanitizers want to hear of a switch.
#pragma once

#include <boost/context/detail/fcontext.hpp>
#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define WEFT_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#define WEFT_TSAN 1
#include <sanitizer/tsan_interface.h>
#endif

namespace weft::engine {

using boost::context::detail::fcontext_t;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

/// Stores the present context in *from and goes on where `to` left off, or begins it. Returns when something
/// switches back.
extern "C" [[gnu::visibility("hidden")]] void weft_switch_stack(fcontext_t to, fcontext_t* from) noexcept;

/// A fiber's side of the sanitizers' bookkeeping; empty in a plain build.
class SanitizerState {
 public:
  void create() noexcept {
#ifdef WEFT_TSAN
    tsan_fiber_ = __tsan_create_fiber(0);
#endif
  }
  void adopt_thread(const void* stack_base, size_t stack_size) noexcept {
    set_stack(stack_base, stack_size);
#ifdef WEFT_TSAN
    tsan_fiber_ = __tsan_get_current_fiber();
#endif
  }
  /// REQUIRES: called on another fiber.
  void destroy() noexcept {
#ifdef WEFT_TSAN
    __tsan_destroy_fiber(tsan_fiber_);
    tsan_fiber_ = nullptr;
#endif
  }
  void set_stack([[maybe_unused]] const void* base, [[maybe_unused]] size_t size) noexcept {
#ifdef WEFT_ASAN
    stack_base_ = base;
    stack_size_ = size;
#endif
  }
  /// The running fiber is about to switch to `next`; `dying`: for good.
  [[gnu::always_inline]] void leave([[maybe_unused]] SanitizerState& next,
                                    [[maybe_unused]] bool dying) noexcept {
#ifdef WEFT_ASAN
    __sanitizer_start_switch_fiber(dying ? nullptr : &fake_stack_, next.stack_base_, next.stack_size_);
#endif
#ifdef WEFT_TSAN
    __tsan_switch_to_fiber(next.tsan_fiber_, 0);
#endif
  }
  /// This fiber runs (again), on its own stack.
  void enter() noexcept {
#ifdef WEFT_ASAN
    __sanitizer_finish_switch_fiber(fake_stack_, nullptr, nullptr);
    fake_stack_ = nullptr;
    // What lies below the stack pointer is dead. ASan's own code, which runs there when an exception is
    // thrown, takes offence at the marks of frames that were left there (sigaltstack's interceptor, GCC 12).
    constexpr uintptr_t kReach = 64 * 1024;
    const auto top = reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) - 512;
    const auto base = reinterpret_cast<uintptr_t>(stack_base_);
    const uintptr_t from = top - base > kReach ? top - kReach : base;
    if (base != 0 && from < top) __asan_unpoison_memory_region(reinterpret_cast<void*>(from), top - from);
#endif
  }

 private:
#ifdef WEFT_ASAN
  void* fake_stack_ = nullptr;
  const void* stack_base_ = nullptr;
  size_t stack_size_ = 0;
#endif
#ifdef WEFT_TSAN
  void* tsan_fiber_ = nullptr;
#endif
};

}  // namespace weft::engine
