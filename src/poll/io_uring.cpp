#include "poll/io_uring.hpp"

#include <poll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <new>

#include "fiber/assert.hpp"
#include "fiber/parking_lot.hpp"
#include "fiber/private_fd.hpp"
#include "fiber/sys.hpp"
#include "poll/fd_table.hpp"

namespace weft::engine {

namespace {

// What a completion belongs to: a pointer with its kind in the low bits, or one of two constants.
constexpr uint64_t kKindMask = 7, kPoll = 0, kFile = 1, kBell = 2, kRemoval = 3;
static_assert(alignof(FdWait) > kKindMask);

// The answer to `wait`, as poll(2) would give it; 0 if there is none.
short what_was_seen(FdWait& wait, int result) noexcept {
  if (result == -EBADF) return POLLNVAL;
  if (result == -ECANCELED && wait.removing) return 0;
  if (result < 0) return POLLERR;
  const auto asked = static_cast<uint16_t>(wait.events | kAlwaysReported);
  const auto seen = static_cast<short>(result & asked);
  // A request that had to wait completes with what the waker said might be, not with what is: POLLPRI for any
  // data that arrives at a socket, POLLERR when the writer of a pipe goes.
  constexpr short kPlain = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM | POLLRDHUP;
  if ((seen & ~kPlain) == 0 && (wait.events & POLLPRI) == 0) return seen;
  pollfd descriptor{wait.fd, wait.events, 0};
  const sys::Timespec at_once{0, 0};
  return sys::call(SYS_ppoll, &descriptor, 1, &at_once, nullptr, 0) < 0 ? seen : descriptor.revents;
}

}  // namespace

// Lives on the stack of the fiber that waits for it.
struct alignas(kKindMask + 1) UringPoller::FileRequest {
  Fiber* fiber;
  uint64_t ticket;
  long result;
};

std::unique_ptr<Poller> UringPoller::create() {
  std::unique_ptr<UringPoller> poller(new (std::nothrow) UringPoller);
  int error = poller ? poller->open() : -ENOMEM;
  if (error == 0 && !poller->enlist()) error = -EMFILE;
  if (error == 0) return poller;
  poller.reset();
  errno = -error;
  return nullptr;
}

UringPoller::~UringPoller() {
  delist();
  ring_.close();
  close_private_fd(bell_);
}

int UringPoller::open() noexcept {
  if (const int error = ring_.open()) return error;
  const long bell = sys::call(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (bell < 0) {
    ring_.close();
    return static_cast<int>(bell);
  }
  bell_ = make_private_fd(static_cast<int>(bell));
  return 0;
}

void UringPoller::renew() noexcept {
  ring_.close();
  close_private_fd(bell_);
  interrupted_ = false;
  WEFT_ASSERT(open() == 0);
}

void UringPoller::begin() noexcept {
  if (ring_.enabled()) [[likely]]
    return;
  ring_.enable();
  watch_bell();
}

void UringPoller::watch_bell() noexcept {
  io_uring_sqe& sqe = request();
  // As edge-triggered epoll: each write is one completion, and nobody needs to read the counter.
  io_uring_prep_poll_multishot(&sqe, bell_, POLLIN);
  sqe.user_data = kBell;
}

void UringPoller::interrupt() noexcept {
  const uint64_t one = 1;
  sys::call(SYS_write, bell_, &one, sizeof one);
}

bool UringPoller::has_events() noexcept {
  // Without IORING_SETUP_TASKRUN_FLAG completions are posted without being asked for.
  return ring_.unsubmitted() > 0 || ring_.has_completion() || ring_.has_work_in_kernel();
}

io_uring_sqe& UringPoller::request() noexcept {
  for (;;) {
    if (io_uring_sqe* sqe = ring_.next_request()) return *sqe;
    const long submitted = ring_.submit();
    if (submitted > 0 || submitted == -EINTR) continue;
    // The kernel wants its completions taken first, or is short of memory.
    WEFT_ASSERT(submitted == -EBUSY || submitted == -EAGAIN || submitted == -ENOMEM);
    ring_.submit_and_collect(0, 0);
    reap();
  }
}

void UringPoller::add(FdWait& wait) noexcept {
  io_uring_sqe& sqe = request();
  auto events = static_cast<uint16_t>(wait.events & ~kAlwaysReported);
  // The kernel's own filter of wake-ups leaves POLLPRI out (IO_ASYNC_POLL_COMMON): a request for that alone
  // is never woken. Sockets announce it together with POLLRDBAND. What is still missed on io_uring is a
  // terminal in packet mode.
  if (events & POLLPRI) events |= POLLRDBAND;
  if (wait.lasting)
    io_uring_prep_poll_multishot(&sqe, wait.fd, events);
  else
    io_uring_prep_poll_add(&sqe, wait.fd, events);
  sqe.user_data = reinterpret_cast<uint64_t>(&wait) | kPoll;
}

void UringPoller::remove(FdWait& wait) noexcept {
  wait.removing = true;
  io_uring_sqe& sqe = request();
  // Not IORING_OP_POLL_REMOVE: that gives up (EALREADY) when the poll was just woken, and if the wake-up then
  // comes to nothing, because somebody else took what there was, the poll stays.
  io_uring_prep_cancel64(&sqe, reinterpret_cast<uint64_t>(&wait) | kPoll, 0);
  if (ring_.features() & IORING_FEAT_CQE_SKIP) sqe.flags |= IOSQE_CQE_SKIP_SUCCESS;
  sqe.user_data = kRemoval;
}

void UringPoller::arm(FdWait& wait) noexcept {
  begin();
  FdEntry* entry = FdTable::at(wait.fd);
  wait.entry = entry;
  if (!entry) {  // without memory: told to try, the fiber comes back here if it must
    wait.revents = POLLERR;
    wait.fiber->unpark(wait.ticket, Wake::kReady);
    return;
  }
  {
    Guard guard(entry->lock);
    entry->open();
    entry->waits.push_back(wait);
  }
  wait.in_kernel = true;
  wait.removing = wait.lasting = wait.resting = false;
  add(wait);
}

void UringPoller::disarm(std::span<FdWait> waits, Wake wake) noexcept {
  // What is ready, but was not looked at yet, is no timeout; a cancelled poll would not tell any more.
  if (wake == Wake::kTimeout) collect();
  for (FdWait& wait : waits)
    if (wait.in_kernel && !wait.removing) remove(wait);
  for (FdWait& wait : waits) {
    wait_for(wait);
    if (wait.fd < 0 || !wait.resting) continue;
    Guard guard(wait.entry->lock);
    if (wait.linked()) wait.unlink();
  }
}

void UringPoller::wait_for(const FdWait& wait) noexcept {
  while (wait.in_kernel) {
    ring_.submit_and_collect(1, kNever);
    reap();
  }
}

void UringPoller::retire(FdEntry& entry) noexcept {
  // Requests are made without the lock: making one may mean to take completions, which need it. Only this
  // thread takes a wait of ours off the list.
  constexpr int kAtOnce = 64;
  for (;;) {
    FdWait* ours[kAtOnce];
    int count = 0;
    FdWait* left = nullptr;
    {
      Guard guard(entry.lock);
      for (FdWait* wait = entry.waits.front(); wait && count < kAtOnce; wait = entry.waits.after(*wait)) {
        if (wait->poller != this) continue;
        left = wait;
        if (!wait->removing) ours[count++] = wait;
      }
    }
    if (!left) return;
    for (int i = 0; i < count; ++i) remove(*ours[i]);
    if (count == 0) wait_for(*left);
  }
}

void UringPoller::poll(Nanos timeout) noexcept {
  begin();
  if (timeout == 0 || interrupted_ || ring_.has_completion()) {
    collect();
  } else {
    ring_.submit_and_collect(1, timeout);
    reap();
  }
  if (timeout != 0) interrupted_ = false;
}

// Without a system call if there is nothing to hand over or to ask for.
void UringPoller::collect() noexcept {
  if (ring_.unsubmitted() > 0 || ring_.has_work_in_kernel()) ring_.submit_and_collect(0, 0);
  reap();
}

void UringPoller::reap() noexcept {
  io_uring_cqe completion;
  do {
    while (ring_.next_completion(completion)) {
      const uint64_t token = completion.user_data;
      if ((token & kKindMask) == kPoll) {
        deliver(*reinterpret_cast<FdWait*>(token), completion);
      } else if ((token & kKindMask) == kFile) {
        auto& file = *reinterpret_cast<FileRequest*>(token & ~kKindMask);
        file.result = completion.res;
        file.fiber->unpark(file.ticket, Wake::kReady);
      } else if (token == kBell) {
        interrupted_ = true;
        if (completion.flags & IORING_CQE_F_MORE) continue;
        uint64_t rings;
        sys::call(SYS_read, bell_, &rings, sizeof rings);  // else it would ring again at once
        watch_bell();
      }
    }
    // Posts what there was no room for.
    if (!ring_.has_overflow()) return;
    ring_.submit_and_collect(0, 0);
  } while (ring_.has_completion());
}

void UringPoller::deliver(FdWait& wait, const io_uring_cqe& completion) noexcept {
  FdEntry& entry = *wait.entry;
  const bool more = completion.flags & IORING_CQE_F_MORE;
  // No wait queue, and not ready for what is waited for: a regular file, of which nothing or POLLPRI was
  // asked. It never will be, but closing() must still find the wait.
  const bool rests = completion.res == -EINVAL;
  const short seen = rests ? short{0} : what_was_seen(wait, completion.res);
  bool again = false, closers = false;
  {
    Guard guard(entry.lock);
    if (seen != 0 && !wait.closed) {
      wait.revents |= seen;
      wait.fiber->unpark(wait.ticket, Wake::kReady);
    }
    again = seen == 0 && !more && !wait.removing && !rests;
    wait.resting = rests && !wait.closed;
    if (!more && !again && !wait.resting) {
      wait.unlink();
      closers = entry.closers > 0;
    }
  }
  if (again) {
    // A request completes with POLLRDHUP even where that was not asked for, and would at once do so again: an
    // endless loop for a fiber that waits to write to a peer which has shut down its side. A lasting one only
    // reports what is new.
    wait.lasting = true;
    add(wait);
    return;
  }
  if (more) return;
  wait.in_kernel = false;
  if (closers) ParkingLot::instance().wake_all(&entry);
}

long UringPoller::file_operation(const FileOperation& operation) noexcept {
  begin();
  Fiber& self = Carrier::current()->running();
  io_uring_sqe& sqe = request();
  const int fd = operation.fd;
  const auto count = static_cast<unsigned>(operation.count_or_flags);
  const auto offset = static_cast<uint64_t>(operation.offset);
  switch (operation.kind) {
    case FileOperation::Kind::kReadv:
      io_uring_prep_readv(&sqe, fd, static_cast<const iovec*>(operation.memory), count, offset);
      break;
    case FileOperation::Kind::kWritev:
      io_uring_prep_writev(&sqe, fd, static_cast<const iovec*>(operation.memory), count, offset);
      break;
    case FileOperation::Kind::kOpenat:
      io_uring_prep_openat(&sqe, fd, static_cast<const char*>(operation.memory), operation.count_or_flags,
                           static_cast<mode_t>(operation.length_or_mode));
      break;
    case FileOperation::Kind::kFsync:
      io_uring_prep_fsync(&sqe, fd, count != 0 ? IORING_FSYNC_DATASYNC : 0);
      break;
    case FileOperation::Kind::kFallocate:
      io_uring_prep_fallocate(&sqe, fd, operation.count_or_flags, operation.offset, operation.length_or_mode);
      break;
  }
  FileRequest file{&self, 0, 0};
  sqe.user_data = reinterpret_cast<uint64_t>(&file) | kFile;
  const WaitReason reason{WaitKind::kIo, operation.call, nullptr, fd};
  file.ticket = self.begin_wait(kUninterruptible, reason);
  Carrier::current()->park();
  return file.result;
}

}  // namespace weft::engine
