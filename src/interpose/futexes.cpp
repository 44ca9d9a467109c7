// syscall(2), by which libraries reach the futex directly: GLib, libstdc++'s std::atomic::wait and guards,
// Rust.
#include <linux/futex.h>
#include <sys/syscall.h>

#include <cstdarg>

#include "fiber/sys.hpp"
#include "interpose/calls.hpp"
#include "interpose/mutexes.hpp"
#include "interpose/support.hpp"
#include "runtime/runtime.hpp"

namespace weft::engine::interpose {

namespace {

long result_of(long value) noexcept {
  return value < 0 ? fail(static_cast<int>(-value)) : value;
}

// The wait of FUTEX_WAIT and FUTEX_WAIT_BITSET as a fiber. A shared futex is waited for like a private one:
// the waker in another process is not seen, so such waits are cut into slices.
long wait_futex(uint32_t* word, int operation, uint32_t expected, const timespec* timeout) noexcept {
  const int command = operation & FUTEX_CMD_MASK;
  Nanos deadline = kNever;
  if (timeout) {
    if (!valid(*timeout)) return fail(EINVAL);
    if (command == FUTEX_WAIT)
      deadline = later(monotonic_now(), to_nanos(*timeout));
    else
      deadline =
          monotonic_deadline(operation & FUTEX_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC, *timeout);
  }
  const auto unchanged = [&]() noexcept { return __atomic_load_n(word, __ATOMIC_SEQ_CST) == expected; };
  constexpr Nanos kSlice = 20 * kMillisecond;
  for (;;) {
    const Nanos slice = operation & FUTEX_PRIVATE_FLAG ? kNever : later(monotonic_now(), kSlice);
    bool differs = false;
    const Wake wake = ParkingLot::instance().park(word, slice < deadline ? slice : deadline, kInterruptible,
                                                  {WaitKind::kLock, "futex", word}, [&]() noexcept {
                                                    differs = !unchanged();
                                                    return !differs;
                                                  });
    if (differs) return fail(EAGAIN);
    if (wake == Wake::kReady) return 0;
    if (wake == Wake::kInterrupted) return fail(EINTR);
    if (!unchanged()) return 0;
    if (monotonic_now() >= deadline) return fail(ETIMEDOUT);
  }
}

}  // namespace

long routed::syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& argument : a) argument = va_arg(list, long);
  va_end(list);

  if (number == SYS_futex && Runtime::get()) {
    auto* word = reinterpret_cast<uint32_t*>(a[0]);
    const int operation = static_cast<int>(a[1]), command = operation & FUTEX_CMD_MASK;
    const auto bits = static_cast<uint32_t>(a[5]);
    if (command == FUTEX_WAIT || (command == FUTEX_WAIT_BITSET && bits == FUTEX_BITSET_MATCH_ANY)) {
      if (current_fiber())
        return wait_futex(word, operation, static_cast<uint32_t>(a[2]),
                          reinterpret_cast<const timespec*>(a[3]));
    } else if (command == FUTEX_WAKE || command == FUTEX_WAKE_BITSET) {
      const int woken = ParkingLot::instance().wake(word, static_cast<int>(a[2]));
      if (woken >= static_cast<int>(a[2])) return woken;
      const long rest = result_of(sys::call(SYS_futex, a[0], a[1], a[2] - woken, a[3], a[4], a[5]));
      return rest < 0 ? rest : rest + woken;
    }
    // The other commands touch two words or hand over ownership: whoever waits for them waits natively.
  } else if (number == SYS_gettid) {
    return routed::gettid();
  }
  PinScope pin("syscall", __builtin_return_address(0));
  return result_of(sys::call(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

}  // namespace weft::engine::interpose
