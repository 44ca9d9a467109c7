// Terminals in blocking mode. They do not know RWF_NOWAIT, and must be called on the carrier, whose thread is
// the one that job control stops: so they are called through another open description that does not block,
// and the rules by which a blocking read gathers its bytes (termios(3), VMIN and VTIME) are kept here.
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "fiber/sys.hpp"
#include "interpose/calls.hpp"
#include "interpose/files.hpp"
#include "poll/poller.hpp"

namespace weft::engine::interpose {

namespace {

long call_on(int fd, const Transfer& t, const Cursor& cursor) noexcept {
  return sys::call(t.writing ? SYS_writev : SYS_readv, fd, cursor.vectors(), cursor.count());
}

// When another description is not to be had (a terminal of another user, no /proc): as the call was made,
// once it is ready.
ssize_t call_when_ready(const Transfer& t) noexcept {
  Readiness readiness(t.fd, t.writing, t.call);
  if (const int error = readiness.wait()) return fail(error);
  PinScope pin(t.call, nullptr);
  return libc_result(call_on(t.fd, t, Cursor(t.vectors, t.count)));
}

// Gathering: returns once `least` bytes came, or when no further byte does for `pause`.
struct Gathering {
  size_t least = 1;
  Nanos pause = kNever;
  Nanos patience = kNever;  // for the first byte
  size_t heard = 1;         // poll(2) tells of bytes only when there are so many (n_tty_poll)
};

Gathering gathering_of(int fd) noexcept {
  struct termios settings;
  Gathering rule;
  if (sys::call(SYS_ioctl, fd, TCGETS, &settings) < 0 || (settings.c_lflag & ICANON)) return rule;
  const Nanos time = settings.c_cc[VTIME] * 100 * kMillisecond;
  rule.least = settings.c_cc[VMIN];
  if (rule.least == 0)
    rule.patience = time;
  else if (time > 0)
    rule.pause = time;
  else
    rule.heard = rule.least;
  return rule;
}

// Waits for `wanted` bytes. Where poll(2) would not tell of so few (the call asks for fewer than VMIN, or has
// some of them already), it is looked again and again, at intervals that grow. Returns 0 when it is worth
// another attempt, or an errno.
int wait_for_bytes(Readiness& readiness, const Gathering& rule, size_t wanted, Nanos deadline,
                   Nanos& interval) noexcept {
  if (wanted >= rule.heard) return readiness.wait_until(deadline);
  const Nanos look = later(monotonic_now(), interval);
  if (interval < 16 * kMillisecond) interval *= 2;
  if (look >= deadline) return readiness.wait_until(deadline);
  const int error = readiness.wait_until(look);
  return error == ETIMEDOUT ? 0 : error;
}

}  // namespace

bool terminal_gives_up(int fd) noexcept {
  return gathering_of(fd).patience != kNever;
}

ssize_t read_terminal(const Transfer& t) noexcept {
  const Gathering rule = gathering_of(t.fd);
  const int fd = reopen_nonblocking(t.fd, false);
  if (fd < 0) return call_when_ready(t);
  Cursor cursor(t.vectors, t.count);
  Readiness readiness(t.fd, false, t.call);
  const size_t least = std::min(std::max<size_t>(rule.least, 1), cursor.total());
  Nanos deadline = rule.patience == kNever ? kNever : later(monotonic_now(), rule.patience);
  Nanos interval = kMillisecond;
  long result = 0;
  int error = 0;
  for (;;) {
    result = call_on(fd, t, cursor);
    if (result > 0) cursor.advance(static_cast<size_t>(result));
    if ((result < 0 && result != -EAGAIN) || result == 0 || cursor.done() >= least) break;
    if (cursor.done() > 0 && rule.pause != kNever) deadline = later(monotonic_now(), rule.pause);
    if ((error = wait_for_bytes(readiness, rule, least - cursor.done(), deadline, interval)) != 0) break;
  }
  close_reopened(fd);
  if (cursor.done() > 0) return static_cast<ssize_t>(cursor.done());
  if (error == ETIMEDOUT) return 0;
  return error ? fail(error) : libc_result(result);
}

ssize_t write_terminal(const Transfer& t) noexcept {
  const int fd = reopen_nonblocking(t.fd, true);
  if (fd < 0) return call_when_ready(t);
  Cursor cursor(t.vectors, t.count);
  Readiness readiness(t.fd, true, t.call);
  long result = 0;
  int error = 0;
  while (!cursor.finished()) {
    result = call_on(fd, t, cursor);
    if (result > 0) {
      cursor.advance(static_cast<size_t>(result));
      continue;
    }
    if (result != -EAGAIN || (error = readiness.wait()) != 0) break;
  }
  close_reopened(fd);
  if (cursor.done() > 0) return static_cast<ssize_t>(cursor.done());
  return error ? fail(error) : libc_result(result);
}

}  // namespace weft::engine::interpose
