// Descriptors: locks on files, message queues and semaphore sets.
#include <fcntl.h>
#include <poll.h>
#include <sys/sem.h>

#include <algorithm>
#include <cstdarg>
#include <cstring>

#include "interpose/calls.hpp"
#include "interpose/files.hpp"
#include "interpose/files_offload.hpp"

namespace weft::engine::interpose {

namespace {

// A wait that the kernel offers no event for. `attempt` makes the call so that it fails with `busy` instead
// of blocking; `wait` makes it blocking. The main fiber tries again and again, since it must be there for
// signals, as a program expects that ends such a wait by alarm(); the others wait in the kernel's queue on a
// pool thread, uninterruptibly.
template <typename Attempt, typename Wait>
auto wait_for_lock(const char* call, int busy, Nanos deadline, Attempt&& attempt, Wait&& wait) noexcept
    -> decltype(attempt()) {
  Carrier& carrier = *Carrier::current();
  const int kept = errno;
  Nanos pause = kMillisecond / 4;
  for (;;) {
    auto result = attempt();
    if (result != -1 || (errno != busy && !(busy == EAGAIN && errno == EACCES))) return result;
    if (&carrier.running() != &carrier.main_fiber()) {
      errno = kept;
      OffloadPool::instance().run(call, [&]() noexcept { result = wait(); });
      return result;
    }
    errno = kept;
    const Nanos next = std::min(deadline, later(monotonic_now(), pause));
    pause = std::min(2 * pause, 20 * kMillisecond);
    const Wake wake = carrier.sleep_until(next, kInterruptible | kRestartable | kCancellable, call);
    if (wake == Wake::kInterrupted) return fail(EINTR);
    if (const int error = revocation_error(wake)) return fail(error);
    if (monotonic_now() >= deadline) return fail(busy);
  }
}

// What fcntl is to do if a lock must be waited for; 0 for the other commands.
int without_waiting(int command) noexcept {
  switch (command) {
    case F_SETLKW:
      return F_SETLK;
    case F_OFD_SETLKW:
      return F_OFD_SETLK;
    default:
      return 0;
  }
}

// --- POSIX message queues: descriptors that can be polled, whose calls take a time limit.

constexpr timespec kLongAgo{0, 0};

template <typename Attempt>
auto wait_for_queue(mqd_t queue, bool sending, Nanos deadline, const char* call, Attempt&& attempt) noexcept
    -> decltype(attempt(&kLongAgo)) {
  const int kept = errno;
  Readiness readiness(queue, sending, call);
  for (;;) {
    const auto result = attempt(&kLongAgo);
    if (result != -1 || errno != ETIMEDOUT) return result;
    if (const int error = readiness.wait_until(deadline)) return fail(error);
    errno = kept;
  }
}

// The deadline of a call that takes none (null), or one of CLOCK_REALTIME.
Nanos deadline_of(const timespec* time) noexcept {
  return time ? monotonic_deadline(CLOCK_REALTIME, *time) : kNever;
}

}  // namespace

int routed::fcntl(int fd, int command, ...) noexcept {
  va_list list;
  va_start(list, command);
  void* argument = va_arg(list, void*);
  va_end(list);
  const int attempt = without_waiting(command);
  if (attempt && current_fiber())
    return wait_for_lock(
        "fcntl", EAGAIN, kNever, [&]() noexcept { return real::fcntl(fd, attempt, argument); },
        [&]() noexcept { return real::fcntl(fd, command, argument); });
  if (!attempt) return real::fcntl(fd, command, argument);
  PinScope pin("fcntl", __builtin_return_address(0));
  return real::fcntl(fd, command, argument);
}

int routed::flock(int fd, int operation) noexcept {
  if (current_fiber() && !(operation & LOCK_NB))
    return wait_for_lock(
        "flock", EWOULDBLOCK, kNever, [&]() noexcept { return real::flock(fd, operation | LOCK_NB); },
        [&]() noexcept { return real::flock(fd, operation); });
  PinScope pin("flock", __builtin_return_address(0));
  return real::flock(fd, operation);
}

int routed::lockf(int fd, int command, off_t length) noexcept {
  if (current_fiber() && command == F_LOCK)
    return wait_for_lock(
        "lockf", EAGAIN, kNever, [&]() noexcept { return real::lockf(fd, F_TLOCK, length); },
        [&]() noexcept { return real::lockf(fd, F_LOCK, length); });
  PinScope pin("lockf", __builtin_return_address(0));
  return real::lockf(fd, command, length);
}

ssize_t routed::mq_timedreceive(mqd_t queue, char* message, size_t size, unsigned* priority,
                                const timespec* time) noexcept {
  if (current_fiber() && (!time || valid(*time)))
    return wait_for_queue(queue, false, deadline_of(time), "mq_timedreceive",
                          [&](const timespec* limit) noexcept {
                            return real::mq_timedreceive(queue, message, size, priority, limit);
                          });
  PinScope pin("mq_timedreceive", __builtin_return_address(0));
  return real::mq_timedreceive(queue, message, size, priority, time);
}

ssize_t routed::mq_receive(mqd_t queue, char* message, size_t size, unsigned* priority) noexcept {
  if (current_fiber()) return routed::mq_timedreceive(queue, message, size, priority, nullptr);
  PinScope pin("mq_receive", __builtin_return_address(0));
  return real::mq_receive(queue, message, size, priority);
}

int routed::mq_timedsend(mqd_t queue, const char* message, size_t size, unsigned priority,
                         const timespec* time) noexcept {
  if (current_fiber() && (!time || valid(*time)))
    return wait_for_queue(queue, true, deadline_of(time), "mq_timedsend",
                          [&](const timespec* limit) noexcept {
                            return real::mq_timedsend(queue, message, size, priority, limit);
                          });
  PinScope pin("mq_timedsend", __builtin_return_address(0));
  return real::mq_timedsend(queue, message, size, priority, time);
}

int routed::mq_send(mqd_t queue, const char* message, size_t size, unsigned priority) noexcept {
  if (current_fiber()) return routed::mq_timedsend(queue, message, size, priority, nullptr);
  PinScope pin("mq_send", __builtin_return_address(0));
  return real::mq_send(queue, message, size, priority);
}

ssize_t routed::msgrcv(int queue, void* message, size_t size, long type, int flags) noexcept {
  if (current_fiber() && !(flags & IPC_NOWAIT))
    return wait_for_lock(
        "msgrcv", ENOMSG, kNever,
        [&]() noexcept { return real::msgrcv(queue, message, size, type, flags | IPC_NOWAIT); },
        [&]() noexcept { return real::msgrcv(queue, message, size, type, flags); });
  PinScope pin("msgrcv", __builtin_return_address(0));
  return real::msgrcv(queue, message, size, type, flags);
}

int routed::msgsnd(int queue, const void* message, size_t size, int flags) noexcept {
  if (current_fiber() && !(flags & IPC_NOWAIT))
    return wait_for_lock(
        "msgsnd", EAGAIN, kNever,
        [&]() noexcept { return real::msgsnd(queue, message, size, flags | IPC_NOWAIT); },
        [&]() noexcept { return real::msgsnd(queue, message, size, flags); });
  PinScope pin("msgsnd", __builtin_return_address(0));
  return real::msgsnd(queue, message, size, flags);
}

int routed::semtimedop(int set, sembuf* operations, size_t count, const timespec* limit) noexcept {
  const CallSite site{"semtimedop", __builtin_return_address(0)};
  constexpr size_t kMost = 500;  // SEMOPM
  if (!current_fiber() || count == 0 || count > kMost || (limit && !valid(*limit))) {
    PinScope pin(site.call, site.caller);
    return real::semtimedop(set, operations, count, limit);
  }
  const Nanos deadline = limit ? later(monotonic_now(), to_nanos(*limit)) : kNever;
  const int kept = errno;
  // To the kernel a limit of nothing is a sleep all the same. It ends with EINTR not only where a handler
  // ran, but also where io_uring has work for the thread (TIF_NOTIFY_SIGNAL).
  const auto attempt = [&]() noexcept {
    const timespec nothing{0, 0};
    int result;
    do result = real::semtimedop(set, operations, count, &nothing);
    while (result == -1 && errno == EINTR);
    return result;
  };
  const int result = attempt();
  if (result == 0 || errno != EAGAIN) return result;
  errno = kept;
  // Where one of several operations must not wait, only the kernel knows which of them it was that failed.
  for (size_t i = 0; i < count; ++i)
    if (operations[i].sem_flg & IPC_NOWAIT)
      return offload(site, real::semtimedop, set, operations, count, limit);
  return wait_for_lock(site.call, EAGAIN, deadline, attempt,
                       [&]() noexcept { return real::semtimedop(set, operations, count, limit); });
}

int routed::semop(int set, sembuf* operations, size_t count) noexcept {
  if (current_fiber()) return routed::semtimedop(set, operations, count, nullptr);
  PinScope pin("semop", __builtin_return_address(0));
  return real::semop(set, operations, count);
}

}  // namespace weft::engine::interpose
