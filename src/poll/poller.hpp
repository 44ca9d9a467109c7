// Poller: how fibers wait for descriptors.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "fiber/carrier.hpp"

struct pollfd;

namespace weft::engine {

enum class Backend : uint8_t { kAuto, kIoUring, kEpoll };
const char* to_string(Backend backend) noexcept;

class Poller;
struct FdEntry;

/// A descriptor and what is waited for on it, as for poll(2). Lives on the waiting fiber's stack.
struct FdWait : ListHook {
  int fd = -1;
  short events = 0;  ///< POLLIN, POLLOUT, POLLPRI, POLLRDHUP
  short revents =
      0;  ///< what was seen, with POLLERR, POLLHUP, POLLNVAL; 0 where another wait of the call was ready

  // The poller's own; guarded by the lock of `entry` while on its list.
  Fiber* fiber = nullptr;
  uint64_t ticket = 0;
  Poller* poller = nullptr;
  FdEntry* entry = nullptr;
  bool closed = false;  // closing() ended it
  bool in_kernel =
      false;  // io_uring: a completion is still to come; only the carrier's thread reads and writes it
  bool removing = false;  // io_uring: that completion has been asked for; likewise
  bool lasting = false;   // io_uring: polls with IORING_POLL_ADD_MULTI; likewise
  bool resting =
      false;  // io_uring: on the list though not in the kernel, where nothing would ever come of it
};

/// A request that a poller may be able to make without blocking; see file_io.hpp for those who make it.
struct FileOperation {
  enum class Kind : uint8_t { kReadv, kWritev, kOpenat, kFsync, kFallocate };
  Kind kind;
  int fd;                  ///< kOpenat: the directory
  const void* memory;      ///< kReadv, kWritev: the vectors; kOpenat: the path
  int count_or_flags;      ///< kReadv, kWritev: the number of vectors; kOpenat: flags; kFsync: data only;
                           ///< kFallocate: mode
  int64_t offset;          ///< -1: the file's position
  int64_t length_or_mode;  ///< kFallocate: length; kOpenat: mode
  const char* call;        ///< for WaitReason
};

/// The event source of a carrier: readiness of descriptors, for any number of fibers on one descriptor, in
/// all directions. At most 64 exist at once.
class Poller : public EventSource {
 public:
  /// Told of a wait's ticket as soon as there is one, so that something else may end the wait as well.
  struct Announcement {
    void (*call)(void* self, uint64_t ticket) noexcept;
    void* self;
  };

  /// A poller of the kind asked for; kAuto: io_uring, or epoll where the kernel refuses that. Null with errno
  /// set when it cannot be had. `why`, if given, receives a sentence for `weft doctor`: what was chosen, and
  /// for what reason. Any thread.
  static std::unique_ptr<Poller> create(Backend backend, std::string* why = nullptr);

  /// REQUIRES: no fiber waits.
  ~Poller() override;
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;

  /// The poller of the calling thread's carrier. REQUIRES: the caller is a fiber.
  static Poller& of_this_carrier() noexcept { return static_cast<Poller&>(Carrier::current()->events()); }

  virtual Backend backend() const noexcept = 0;

  /// Parks the running fiber until one of `waits` is ready, the absolute time `deadline`, or what `flags`
  /// allow. Wake::kReady: at least one revents is set. A descriptor that is always ready to the kernel (a
  /// regular file) is ready at once, one that is not open has POLLNVAL. Wake::kClosed: one of them was closed
  /// meanwhile, through closing(); its revents is POLLNVAL. Readiness is a hint: another fiber may take it
  /// first. Negative descriptors are ignored. With a deadline that has passed the descriptors are still
  /// looked at once; if none is ready, others may run before Wake::kTimeout is returned, so that a loop
  /// around it starves nobody.
  ///
  /// When it returns, no poll of this wait is left in the kernel.
  Wake wait(std::span<FdWait> waits, Nanos deadline, uint8_t flags, const char* call,
            const Announcement* announcement = nullptr) noexcept;

  /// The same for one descriptor.
  Wake wait(int fd, short events, Nanos deadline, uint8_t flags, const char* call) noexcept {
    FdWait one;
    one.fd = fd;
    one.events = events;
    return wait({&one, 1}, deadline, flags, call);
  }

  /// To be called before `fd` is closed or replaced, on any thread. Ends every wait for it, on every carrier,
  /// with Wake::kClosed; when it returns no poll of ours keeps the file behind `fd` open, nor can readiness
  /// of that file be taken for that of the next to bear its number. Cheap when nothing of ours ever waited
  /// for `fd`. A wait that begins after it, but before the close itself, goes on for ever, as natively: let
  /// no fiber run between the two.
  ///
  /// Where another carrier must act for that (io_uring), a fiber parks uninterruptibly until it has. A thread
  /// that cannot switch waits as it is, and for kForeignCloseLimit at most, since that carrier may itself
  /// wait for a lock which the thread holds; after that, all that is late is the end of stream the peer sees.
  static void closing(int fd) noexcept;
  static constexpr Nanos kForeignCloseLimit = kSecond;

  /// Makes `operation` in the kernel while the running fiber is parked, uninterruptibly. Returns what the
  /// system call would: a value, or a negated errno; kNotSupported if this poller cannot: nothing was done
  /// then.
  virtual long file_operation(const FileOperation& operation) noexcept;
  static constexpr long kNotSupported = INT64_MIN;

  void reset_after_fork() noexcept final;

  /// Starts afresh on the calling thread, to which it belongs from now on: a ring is its thread's. REQUIRES:
  /// no fiber waits.
  void adopt_thread() noexcept { renew(); }

 protected:
  Poller() noexcept = default;

  /// A place in the table of pollers. False if there is none left.
  bool enlist() noexcept;
  /// The reverse; takes back what descriptor table entries know of this poller.
  void delist() noexcept;

  /// Puts `wait`, whose fiber has begun to wait, on the list of its entry and has the kernel watch for it; or
  /// sets its revents and unparks the fiber, where the kernel knows the answer at once.
  virtual void arm(FdWait& wait) noexcept = 0;
  /// Takes back all that arm() did. After a timeout revents tells what is ready all the same.
  virtual void disarm(std::span<FdWait> waits, Wake wake) noexcept = 0;
  /// `entry`'s descriptor is about to be closed; deregisters it. Called on any thread, with entry.lock held.
  virtual void deregister(FdEntry& entry, int fd) noexcept = 0;
  /// `entry`'s descriptor is about to be closed: returns when none of this poller's waits is on its list.
  /// Called on the carrier's thread, if any was left there by closing().
  virtual void retire(FdEntry& entry) noexcept = 0;
  /// In a fork child: gives up what is shared with the parent, without touching it, and starts afresh.
  virtual void renew() noexcept = 0;

  /// Marks `wait` as closed and ends it. REQUIRES: entry.lock held.
  static void end_closed(FdWait& wait) noexcept;

  /// This poller's bit in FdEntry::registered.
  uint64_t bit() const noexcept { return uint64_t{1} << index_; }
  /// Fibers inside wait(); the carrier's thread only.
  int waiting() const noexcept { return waiting_; }

 private:
  Wake wait_expired(std::span<FdWait> waits, uint8_t flags) noexcept;

  int index_ = -1;
  int waiting_ = 0;
};

/// poll(2) without waiting, by way of no libc: fills revents in, returns how many are ready.
int poll_now(std::span<FdWait> waits) noexcept;

/// poll(2) until `deadline` by way of no libc, for an OS thread: blocks it. Goes on after a signal. Returns
/// how many are ready, or a negated errno.
long poll_until(std::span<pollfd> descriptors, Nanos deadline) noexcept;

/// What poll(2) may report of a wait that it was not asked for.
inline constexpr short kAlwaysReported = 0x008 | 0x010 | 0x020;  // POLLERR, POLLHUP, POLLNVAL

}  // namespace weft::engine
