// Threads: pthread_create makes a fiber; what takes a pthread_t knows both kinds. A fiber's pthread_t is the
// address of its control block.
#include "interpose/threads.hpp"

#include <dlfcn.h>
#include <unwind.h>

#include <cstdlib>
#include <cstring>
#include <ctime>
#include <new>

#include "fiber/assert.hpp"
#include "fiber/sys.hpp"
#include "host/python.hpp"
#include "interpose/calls.hpp"
#include "interpose/files_offload.hpp"
#include "interpose/interpose.hpp"
#include "interpose/keys.hpp"
#include "interpose/mutexes.hpp"
#include "interpose/support.hpp"
#include "interpose/threads_refused.hpp"
#include "runtime/runtime.hpp"

namespace weft::engine::interpose {

namespace {

const Settings* g_settings = nullptr;

using StartRoutine = void* (*)(void*);

[[noreturn]] void end_fiber(void* result) noexcept {
  Fiber& self = *Carrier::running_fiber();
  run_key_destructors(self);
  Carrier::current()->exit_fiber(result);
}

}  // namespace

Runtime* started_runtime() noexcept {
  static constinit FutexLock lock;
  Guard guard(lock);
  Runtime* runtime = Runtime::get();
  if (!runtime && (runtime = Runtime::start(*g_settings))) runtime_started(*runtime);
  return runtime;
}

namespace {

// The body of a fiber that stands for a thread; its start routine is the fiber's attachment. Not noexcept: a
// frame that is would end the process when it is unwound.
void* thread_main(void* argument) {
  const auto start = reinterpret_cast<StartRoutine>(Carrier::running_fiber()->attachment);
  const host::Python* python = host::Python::present();
  if (python && !python->may_begin_thread(start)) end_fiber(nullptr);
  end_fiber(start(argument));
}

int join_fiber(Fiber& fiber, void** result, Nanos deadline, const char* call) noexcept {
  ErrnoKeeper keeper;
  if (&fiber == Carrier::running_fiber()) return EDEADLK;
  if (fiber.detached.exchange(true, std::memory_order_acq_rel))
    return EINVAL;  // detached, or joined by another
  const auto unfinished = [&]() noexcept { return !fiber.done(); };
  while (unfinished()) {
    const Wake wake = ParkingLot::instance().park(&fiber.done_word(), deadline, kUninterruptible,
                                                  {WaitKind::kJoin, call, &fiber}, unfinished);
    if (wake == Wake::kTimeout && unfinished()) {
      fiber.detached.store(false, std::memory_order_release);
      return ETIMEDOUT;
    }
  }
  if (result) *result = fiber.result();
  fiber.release();
  return 0;
}

// Joins an OS thread by `join`: in the offload pool if it has not ended yet, since it may need a fiber to
// end.
template <typename Join>
int join_native(pthread_t thread, void** result, const CallSite& site, Join&& join) noexcept {
  if (!current_fiber()) {
    PinScope pin(site.call, site.caller);
    return join();
  }
  if (pthread_equal(thread, real::pthread_self())) return EDEADLK;
  int error = real::pthread_tryjoin_np(thread, result);
  if (error == EBUSY) OffloadPool::instance().run(site.call, [&]() noexcept { error = join(); });
  return error;
}

// That of the program's C++ code, if it has any: this library brings its own, and the personality routines of
// frames know only theirs.
struct Unwinder {
  decltype(&_Unwind_ForcedUnwind) force = &_Unwind_ForcedUnwind;
  decltype(&_Unwind_GetRegionStart) region_start = &_Unwind_GetRegionStart;

  Unwinder() noexcept {
    void* library = dlopen("libgcc_s.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (!library) return;
    void* found_force = dlsym(library, "_Unwind_ForcedUnwind");
    void* found_start = dlsym(library, "_Unwind_GetRegionStart");
    if (!found_force || !found_start) return;
    force = reinterpret_cast<decltype(force)>(found_force);
    region_start = reinterpret_cast<decltype(region_start)>(found_start);
  }
};

// On the heap: the stack of the frames that called for the unwinding is used again by the destructors that it
// runs.
struct Unwinding {
  alignas(16) _Unwind_Exception exception{};
  void* result;
  Unwinder unwinder{};
};

[[noreturn]] void end_unwinding(Unwinding* unwinding) noexcept {
  void* result = unwinding->result;
  delete unwinding;
  end_fiber(result);
}

_Unwind_Reason_Code unwind_step(int, _Unwind_Action actions, _Unwind_Exception_Class, _Unwind_Exception*,
                                _Unwind_Context* context, void* unwinding) {
  // The frames below are the engine's own.
  auto* state = static_cast<Unwinding*>(unwinding);
  const bool all_unwound = state->unwinder.region_start(context) == reinterpret_cast<uintptr_t>(&thread_main);
  if (all_unwound || (actions & _UA_END_OF_STACK)) end_unwinding(state);
  return _URC_NO_REASON;
}

// Runs the destructors of all frames, as libc's pthread_exit does, then ends the fiber.
[[noreturn]] void unwind_and_end(void* result) {
  auto* unwinding = new (std::nothrow) Unwinding{.result = result};
  if (!unwinding) end_fiber(result);
  unwinding->unwinder.force(&unwinding->exception, &unwind_step, unwinding);
  end_unwinding(unwinding);  // the unwinder gave up: the frames lack unwind tables
}

}  // namespace

Fiber* fiber_of(pthread_t thread) noexcept {
  auto* pointer = reinterpret_cast<void*>(thread);
  return Fiber::is_block(pointer) ? static_cast<Fiber*>(pointer) : nullptr;
}

void set_thread_settings(const Settings& settings) noexcept {
  g_settings = &settings;
}

int routed::pthread_create(pthread_t* thread, const pthread_attr_t* attributes, StartRoutine start,
                           void* argument) noexcept {
  Runtime* runtime = Runtime::get();
  if (!runtime) {
    // The carrier must be a thread that stays, and that signals come to: the main one. A library's own thread
    // that creates the process's first makes an OS thread.
    const bool may_start = sys::thread_id() == sys::call(SYS_getpid) && thread_state().no_switch == 0;
    if (may_start && !interpreter_is_unsupported()) runtime = started_runtime();
    if (!runtime) {
      count_native_thread();
      return real::pthread_create(thread, attributes, start, argument);
    }
  }
  const host::Python* python = host::Python::present();
  if (python && python->is_watchdog(start, argument)) {
    count_native_thread();
    return real::pthread_create(thread, attributes, start, argument);
  }
  ErrnoKeeper keeper;
  size_t stack_size = 0;
  int detached = PTHREAD_CREATE_JOINABLE;
  if (attributes) {
    // An attribute object that nobody changed has the default size for OS threads, which says nothing.
    static const size_t ordinary = [] {
      pthread_attr_t defaults;
      size_t size = 0;
      if (pthread_getattr_default_np(&defaults) == 0) {
        pthread_attr_getstacksize(&defaults, &size);
        pthread_attr_destroy(&defaults);
      }
      return size;
    }();
    pthread_attr_getstacksize(attributes, &stack_size);
    if (stack_size == ordinary) stack_size = 0;
    pthread_attr_getdetachstate(attributes, &detached);
  }
  Fiber* fiber = runtime->create_fiber(&thread_main, argument, stack_size);
  if (!fiber) {
    report_refused_thread(stack_size ? stack_size : g_settings->stack_size);
    return EAGAIN;
  }
  fiber->attachment = reinterpret_cast<void*>(start);
  *thread = reinterpret_cast<pthread_t>(fiber);
  if (detached == PTHREAD_CREATE_DETACHED) {
    fiber->detached.store(true, std::memory_order_relaxed);
    runtime->carrier().start(*fiber);
    fiber->release();
  } else {
    runtime->carrier().start(*fiber);
  }
  return 0;
}

pthread_t routed::pthread_self() noexcept {
  const Fiber* self = Carrier::running_fiber();
  return !self || self->is_main() ? real::pthread_self() : reinterpret_cast<pthread_t>(self);
}

int routed::pthread_join(pthread_t thread, void** result) noexcept {
  if (Fiber* fiber = fiber_of(thread)) return join_fiber(*fiber, result, kNever, "pthread_join");
  return join_native(thread, result, {"pthread_join", __builtin_return_address(0)},
                     [&]() noexcept { return real::pthread_join(thread, result); });
}

int routed::pthread_tryjoin_np(pthread_t thread, void** result) noexcept {
  Fiber* fiber = fiber_of(thread);
  if (!fiber) return real::pthread_tryjoin_np(thread, result);
  return fiber->done() ? join_fiber(*fiber, result, kNever, "pthread_tryjoin_np") : EBUSY;
}

int routed::pthread_clockjoin_np(pthread_t thread, void** result, clockid_t clock,
                                 const timespec* time) noexcept {
  Fiber* fiber = fiber_of(thread);
  if (!fiber)
    return join_native(thread, result, {"pthread_clockjoin_np", __builtin_return_address(0)},
                       [&]() noexcept { return real::pthread_clockjoin_np(thread, result, clock, time); });
  if (time && !valid(*time)) return EINVAL;
  return join_fiber(*fiber, result, time ? monotonic_deadline(clock, *time) : kNever, "pthread_clockjoin_np");
}

int routed::pthread_timedjoin_np(pthread_t thread, void** result, const timespec* time) noexcept {
  return routed::pthread_clockjoin_np(thread, result, CLOCK_REALTIME, time);
}

int routed::pthread_detach(pthread_t thread) noexcept {
  Fiber* fiber = fiber_of(thread);
  if (!fiber) return real::pthread_detach(thread);
  if (fiber->detached.exchange(true, std::memory_order_acq_rel)) return EINVAL;
  fiber->release();
  return 0;
}

void routed::pthread_exit(void* result) {
  Fiber* self = Carrier::running_fiber();
  if (!self) real::pthread_exit(result);
  unwind_and_end(result);
}

// A fiber has no asynchronous cancellation: it runs only when its carrier does. Its deferred one is not
// offered through pthread_cancel either, since libc's own cancellation points could not honour it.
int routed::pthread_cancel(pthread_t thread) noexcept {
  return fiber_of(thread) ? ENOSYS : real::pthread_cancel(thread);
}

int routed::pthread_setcancelstate(int state, int* former) noexcept {
  const Fiber* self = Carrier::running_fiber();
  if (!self || self->is_main()) return real::pthread_setcancelstate(state, former);
  if (state != PTHREAD_CANCEL_ENABLE && state != PTHREAD_CANCEL_DISABLE) return EINVAL;
  if (former) *former = PTHREAD_CANCEL_ENABLE;
  return 0;
}

int routed::pthread_setcanceltype(int type, int* former) noexcept {
  const Fiber* self = Carrier::running_fiber();
  if (!self || self->is_main()) return real::pthread_setcanceltype(type, former);
  if (type != PTHREAD_CANCEL_DEFERRED && type != PTHREAD_CANCEL_ASYNCHRONOUS) return EINVAL;
  if (former) *former = PTHREAD_CANCEL_DEFERRED;
  return 0;
}

void routed::pthread_testcancel() noexcept {
  const Fiber* self = Carrier::running_fiber();
  if (!self || self->is_main()) real::pthread_testcancel();
}

int routed::pthread_getattr_np(pthread_t thread, pthread_attr_t* attributes) noexcept {
  const Fiber* fiber = fiber_of(thread);
  if (!fiber || fiber->is_main()) return real::pthread_getattr_np(thread, attributes);
  if (const int error = pthread_attr_init(attributes)) return error;
  const Stack& stack = fiber->stack();
  pthread_attr_setstack(attributes, stack.base, stack.size());
  const bool detached = fiber->detached.load(std::memory_order_relaxed);
  pthread_attr_setdetachstate(attributes, detached ? PTHREAD_CREATE_DETACHED : PTHREAD_CREATE_JOINABLE);
  pthread_attr_setguardsize(attributes, 4096);
  return 0;
}

int routed::pthread_setname_np(pthread_t thread, const char* name) noexcept {
  Fiber* fiber = fiber_of(thread);
  if (!fiber) return real::pthread_setname_np(thread, name);
  if (strlen(name) > 15) return ERANGE;
  fiber->set_name(name);
  return 0;
}

int routed::pthread_getname_np(pthread_t thread, char* name, size_t size) noexcept {
  const Fiber* fiber = fiber_of(thread);
  if (!fiber) return real::pthread_getname_np(thread, name, size);
  const Fiber::Name kept = fiber->name();
  if (size < strlen(kept.data()) + 1) return ERANGE;
  strcpy(name, kept.data());
  return 0;
}

// What belongs to the kernel's thread is the carrier's, which all its fibers share.
int routed::pthread_getcpuclockid(pthread_t thread, clockid_t* clock) noexcept {
  const Fiber* fiber = fiber_of(thread);
  if (!fiber) return real::pthread_getcpuclockid(thread, clock);
  *clock = static_cast<clockid_t>((~static_cast<unsigned>(fiber->carrier().thread_id()) << 3) | 6);
  return 0;
}

int routed::pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t* set) noexcept {
  const Fiber* fiber = fiber_of(thread);
  if (!fiber) return real::pthread_getaffinity_np(thread, size, set);
  return sched_getaffinity(fiber->carrier().thread_id(), size, set) == 0 ? 0 : errno;
}

int routed::pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t* set) noexcept {
  const Fiber* fiber = fiber_of(thread);
  if (!fiber) return real::pthread_setaffinity_np(thread, size, set);
  return sched_setaffinity(fiber->carrier().thread_id(), size, set) == 0 ? 0 : errno;
}

int routed::pthread_getschedparam(pthread_t thread, int* policy, sched_param* parameters) noexcept {
  const Fiber* fiber = fiber_of(thread);
  if (!fiber) return real::pthread_getschedparam(thread, policy, parameters);
  *policy = sched_getscheduler(fiber->carrier().thread_id());
  return sched_getparam(fiber->carrier().thread_id(), parameters) == 0 ? 0 : errno;
}

int routed::pthread_setschedparam(pthread_t thread, int policy, const sched_param* parameters) noexcept {
  const Fiber* fiber = fiber_of(thread);
  if (!fiber) return real::pthread_setschedparam(thread, policy, parameters);
  return sched_setscheduler(fiber->carrier().thread_id(), policy, parameters) == 0 ? 0 : errno;
}

int routed::pthread_setschedprio(pthread_t thread, int priority) noexcept {
  const Fiber* fiber = fiber_of(thread);
  if (!fiber) return real::pthread_setschedprio(thread, priority);
  const sched_param parameters{priority};
  return sched_setparam(fiber->carrier().thread_id(), &parameters) == 0 ? 0 : errno;
}

// Threads are told apart by this number (threading.get_native_id), so each fiber has its own, beyond the
// kernel's.
pid_t routed::gettid() noexcept {
  const Fiber* self = Carrier::running_fiber();
  return !self || self->is_main() ? real::gettid() : thread_tag(*self);
}

}  // namespace weft::engine::interpose
