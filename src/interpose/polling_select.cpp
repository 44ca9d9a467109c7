// select and pselect. As for poll, the kernel's own call with a timeout of 0 answers, on copies of the sets:
// what the caller sees in them must be untouched until there is an answer.
#include <cstdlib>
#include <cstring>
#include <new>

#include "interpose/polling_wait.hpp"
#include "interpose/signals.hpp"

namespace weft::engine::interpose {

namespace {

// What select(2) takes for readable, writable, exceptional (fs/select.c).
constexpr short kReadable = POLLIN | POLLRDNORM | POLLRDBAND, kWritable = POLLOUT | POLLWRNORM | POLLWRBAND;
constexpr short kEndsRead = POLLHUP | POLLERR, kEndsWrite = POLLERR;

// A descriptor that is only ready in a way that was not asked for, as at its end, when it is watched for
// exceptional conditions alone, is looked at this often instead of being waited for.
constexpr Nanos kSlice = 20 * kMillisecond;

// How many descriptors the kernel would look at: not more than its table of them has places, whatever the
// caller says. There are callers that say getdtablesize() and have a set of 1,024.
int places_in_table() noexcept {
  int places = FD_SETSIZE;
  char text[4096];
  const long file = sys::call(SYS_open, "/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (file < 0) return places;
  const long size = sys::call(SYS_read, file, text, sizeof text - 1);
  sys::call(SYS_close, file);
  text[size > 0 ? size : 0] = 0;
  if (const char* line = strstr(text, "\nFDSize:")) places = atoi(line + 8);
  return places;
}

// The caller's three sets and copies of them, of which the kernel's call may make what it likes.
class Sets {
 public:
  Sets(int count, fd_set* readable, fd_set* writable, fd_set* exceptional) noexcept
      : count_(count), sets_{words_of(readable), words_of(writable), words_of(exceptional)} {
    words_ = (static_cast<size_t>(count) + 63) / 64;
    if (words_ > kFewWords) copies_ = new (std::nothrow) uint64_t[3 * words_];
  }
  ~Sets() {
    if (copies_ != few_) delete[] copies_;
  }
  Sets(const Sets&) = delete;
  Sets& operator=(const Sets&) = delete;

  explicit operator bool() const noexcept { return copies_ != nullptr; }

  // select(2) without waiting, on the copies. With a mask: pending signals that it lets through are handled.
  long attempt(const sigset_t* mask) noexcept {
    for (int i = 0; i < 3; ++i)
      if (sets_[i]) memcpy(copy(i), sets_[i], words_ * sizeof(uint64_t));
    const sys::Timespec at_once{0, 0};
    const struct {
      const uint64_t* bits;
      size_t size;
    } signals{mask_bits(mask), kMaskSize};
    return sys::call(SYS_pselect6, count_, sets_[0] ? copy(0) : nullptr, sets_[1] ? copy(1) : nullptr,
                     sets_[2] ? copy(2) : nullptr, &at_once, mask ? &signals : nullptr);
  }

  // Gives the caller what the last attempt found.
  void publish() noexcept {
    for (int i = 0; i < 3; ++i)
      if (sets_[i]) memcpy(sets_[i], copy(i), words_ * sizeof(uint64_t));
  }

  // The descriptors in the sets, in order: visit(fd, events, what else makes it ready).
  template <typename Visit>
  void for_each(Visit&& visit) const noexcept {
    for (size_t word = 0; word < words_; ++word) {
      uint64_t any = 0;
      for (const uint64_t* set : sets_) any |= set ? set[word] : 0;
      for (; any; any &= any - 1) {
        const uint64_t bit = any & -any;
        const int fd = static_cast<int>(word * 64) + __builtin_ctzll(any);
        if (fd >= count_) return;
        short events = 0, ends = POLLNVAL;
        if (sets_[0] && (sets_[0][word] & bit)) events |= kReadable, ends |= kEndsRead;
        if (sets_[1] && (sets_[1][word] & bit)) events |= kWritable, ends |= kEndsWrite;
        if (sets_[2] && (sets_[2][word] & bit)) events |= POLLPRI;
        visit(fd, events, ends);
      }
    }
  }

 private:
  static constexpr size_t kFewWords = FD_SETSIZE / 64;

  static uint64_t* words_of(fd_set* set) noexcept { return reinterpret_cast<uint64_t*>(set); }
  uint64_t* copy(int i) noexcept { return copies_ + static_cast<size_t>(i) * words_; }

  int count_;
  size_t words_;
  uint64_t* sets_[3];
  uint64_t few_[3 * kFewWords];
  uint64_t* copies_ = few_;
};

// Parks until a descriptor is ready. REQUIRES: none was a moment ago. Returns a count or a negated errno.
long wait_for_any(Sets& sets, Nanos deadline, const char* call) noexcept {
  size_t count = 0;
  sets.for_each([&](int, short, short) { ++count; });
  WaitArray waits(count);
  if (!waits) return -ENOMEM;
  size_t next = 0;
  sets.for_each([&](int fd, short events, short) {
    waits[next].fd = fd;
    waits[next++].events = events;
  });
  bool in_slices = false;
  for (;;) {
    const Nanos slice = in_slices ? later(monotonic_now(), kSlice) : kNever;
    const Nanos until = slice < deadline ? slice : deadline;
    const Wake wake = Poller::of_this_carrier().wait(waits.all(), until, kPollFlags, call);
    if (const int error = revocation_error(wake)) return -error;
    if (wake == Wake::kClosed) return -EBADF;
    const long ready = sets.attempt(nullptr);
    if (ready != 0) return ready;
    if (wake == Wake::kTimeout && slice >= deadline) return 0;
    if (const int error = error_of(wake)) return -error;
    next = 0;
    sets.for_each([&](int, short events, short ends) {
      FdWait& wait = waits[next++];
      if (wait.fd >= 0 && wait.revents != 0 && !(wait.revents & (events | ends))) {
        wait.fd = -1;
        in_slices = true;
      }
    });
  }
}

long select_as_fiber(int count, fd_set* readable, fd_set* writable, fd_set* exceptional, Nanos deadline,
                     const sigset_t* mask, const char* call) noexcept {
  if (count < 0) return -EINVAL;
  if (count > FD_SETSIZE && count > places_in_table()) count = places_in_table();
  Sets sets(count, readable, writable, exceptional);
  if (!sets) return -ENOMEM;
  long ready = sets.attempt(mask);
  if (ready == 0 && deadline != 0) {
    SignalMaskScope scope(mask);
    if (scope.interrupted()) return -EINTR;
    ready = wait_for_any(sets, deadline, call);
  }
  if (ready >= 0) sets.publish();
  return ready;
}

}  // namespace

int routed::select(int count, fd_set* readable, fd_set* writable, fd_set* exceptional,
                   timeval* timeout) noexcept {
  WEFT_STRAIGHT(select, count, readable, writable, exceptional, timeout)
  if (timeout && (timeout->tv_sec < 0 || timeout->tv_usec < 0)) return fail(EINVAL);
  const bool at_once = timeout && timeout->tv_sec == 0 && timeout->tv_usec == 0;
  Nanos deadline = at_once ? 0 : kNever;
  // More than a million microseconds are allowed here.
  if (timeout && !at_once) {
    const timespec time{timeout->tv_sec + timeout->tv_usec / 1'000'000, timeout->tv_usec % 1'000'000 * 1'000};
    deadline = deadline_of(&time);
  }
  const long ready = select_as_fiber(count, readable, writable, exceptional, deadline, nullptr, "select");
  // Linux tells what is left of the time, even when the call fails.
  if (timeout && !at_once) {
    const Nanos present = monotonic_now();
    const Nanos left = deadline == kNever ? kNever : deadline > present ? deadline - present : 0;
    *timeout = {left / kSecond, left % kSecond / kMicrosecond};
  }
  return static_cast<int>(libc_result(ready));
}

int routed::pselect(int count, fd_set* readable, fd_set* writable, fd_set* exceptional,
                    const timespec* timeout, const sigset_t* mask) noexcept {
  WEFT_STRAIGHT(pselect, count, readable, writable, exceptional, timeout, mask)
  if (!valid_timeout(timeout)) return fail(EINVAL);
  const Nanos deadline = is_zero(timeout) ? 0 : deadline_of(timeout);
  return static_cast<int>(
      libc_result(select_as_fiber(count, readable, writable, exceptional, deadline, mask, "pselect")));
}

}  // namespace weft::engine::interpose
