#include "poll/io_ring.hpp"

#include <cerrno>

#include "fiber/assert.hpp"
#include "fiber/private_fd.hpp"
#include "fiber/sys.hpp"

namespace weft::engine {

namespace {

// Enough that a queue fills up only when very many fibers park between two polls: then it is handed over
// early.
constexpr uint32_t kRequests = 256;
// What does not fit, the kernel keeps until there is room.
constexpr uint32_t kCompletions = 2048;

// Not all headers that we are built with know these.
constexpr uint32_t kSubmitAll = 1u << 7;      // Linux 5.18
constexpr uint32_t kCoopTaskrun = 1u << 8;    // 5.19
constexpr uint32_t kTaskrunFlag = 1u << 9;    // 5.19
constexpr uint32_t kSingleIssuer = 1u << 12;  // 6.0
constexpr uint32_t kDeferTaskrun = 1u << 13;  // 6.1

// Timeouts without a request of their own; no completion lost; and, since nothing tells it directly, a kernel
// with IORING_POLL_ADD_MULTI (5.13).
constexpr uint32_t kFeaturesNeeded = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_RSRC_TAGS;

constexpr uint32_t kRegisterRingFds = 20, kUnregisterRingFds = 21, kUnknownOperation = 0x7fff;

}  // namespace

int IoRing::set_up() noexcept {
  // With DEFER_TASKRUN completions are made when this thread asks for them instead of interrupting it, and
  // TASKRUN_FLAG shows that there are some to ask for. The ring starts disabled since SINGLE_ISSUER ties it
  // to the thread that enables it, not to the one that calls this.
  static constexpr uint32_t kBase = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED;
  static constexpr uint32_t kLadder[] = {
      kBase | kSubmitAll | kCoopTaskrun | kTaskrunFlag | kSingleIssuer | kDeferTaskrun,
      kBase | kSubmitAll | kCoopTaskrun | kTaskrunFlag,
      kBase,
  };
  int error = 0;
  for (const uint32_t flags : kLadder) {
    io_uring_params parameters{};
    parameters.flags = flags;
    parameters.cq_entries = kCompletions;
    error = io_uring_queue_init_params(kRequests, &ring_, &parameters);
    if (error != -EINVAL) break;
  }
  return error;
}

int IoRing::open() noexcept {
  if (const int error = set_up()) {
    ring_ = {};
    return error;
  }
  fd_ = make_private_fd(ring_.ring_fd);
  ring_.ring_fd = ring_.enter_ring_fd = enter_fd_ = fd_;
  enter_flags_ = 0;
  tail_.store(0, std::memory_order_relaxed);
  // Entries are used in order: the indirection array never changes.
  for (uint32_t i = 0; i < ring_.sq.ring_entries; ++i) ring_.sq.array[i] = i;

  // A sandbox may let the ring be made, but not be used.
  const long entered = sys::call(SYS_io_uring_enter, fd_, 0, 0, 0, nullptr, 0);
  const long registered = sys::call(SYS_io_uring_register, fd_, kUnknownOperation, nullptr, 0);
  int error = 0;
  if ((ring_.features & kFeaturesNeeded) != kFeaturesNeeded)
    error = -ENOSYS;
  else if (entered < 0 && entered != -EBADFD)
    error = static_cast<int>(entered);  // EBADFD: disabled, as it is
  else if (registered != -EINVAL)
    error = registered < 0 ? static_cast<int>(registered) : -ENOSYS;
  if (error != 0) close();
  return error;
}

void IoRing::enable() noexcept {
  WEFT_ASSERT(fd_ >= 0 && !enabled());
  thread_id_ = sys::thread_id();
  WEFT_ASSERT(sys::call(SYS_io_uring_register, fd_, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) == 0);
  // Spares the kernel from looking up, and counting references to, the descriptor at each call.
  io_uring_rsrc_update update{};
  update.offset = ~0u;
  update.data = static_cast<uint64_t>(fd_);
  if (sys::call(SYS_io_uring_register, fd_, kRegisterRingFds, &update, 1) != 1) return;
  enter_fd_ = static_cast<int>(update.offset);
  enter_flags_ = IORING_ENTER_REGISTERED_RING;
}

void IoRing::close() noexcept {
  if (fd_ < 0) return;
  // On another thread, or in a fork child, there is no registration to take back.
  if (enter_flags_ != 0 && sys::thread_id() == thread_id_) {
    io_uring_rsrc_update update{};
    update.offset = static_cast<uint32_t>(enter_fd_);
    sys::call(SYS_io_uring_register, fd_, kUnregisterRingFds, &update, 1);
  }
  sys::call(SYS_munmap, ring_.sq.sqes, ring_.sq.ring_entries * sizeof(io_uring_sqe));
  if (ring_.cq.ring_ptr && ring_.cq.ring_ptr != ring_.sq.ring_ptr)
    sys::call(SYS_munmap, ring_.cq.ring_ptr, ring_.cq.ring_sz);
  sys::call(SYS_munmap, ring_.sq.ring_ptr, ring_.sq.ring_sz);
  close_private_fd(fd_);
  ring_ = {};
  fd_ = enter_fd_ = -1;
  thread_id_ = 0;
}

long IoRing::enter(uint32_t least, Nanos timeout, uint32_t flags) noexcept {
  const uint32_t tail = tail_.load(std::memory_order_relaxed);
  // Release: the kernel reads the requests after it has seen the tail.
  std::atomic_ref(*ring_.sq.ktail).store(tail, std::memory_order_release);
  const uint32_t requests = tail - load_acquire(ring_.sq.khead);
  flags |= enter_flags_;
  if (least == 0 || timeout == kNever) {
    const long result = sys::call(SYS_io_uring_enter, enter_fd_, requests, least, flags, nullptr, 0);
    WEFT_ASSERT(result != -EEXIST);  // another thread than the one that called enable()
    return result;
  }
  const sys::Timespec limit{timeout / kSecond, timeout % kSecond};
  io_uring_getevents_arg argument{};
  argument.sigmask_sz = 8;
  argument.ts = reinterpret_cast<uint64_t>(&limit);
  return sys::call(SYS_io_uring_enter, enter_fd_, requests, least, flags | IORING_ENTER_EXT_ARG, &argument,
                   sizeof argument);
}

}  // namespace weft::engine
