// Children: waiting for them.
//
// A wait is tried without blocking and, if nobody has changed state, parks until somebody has, then tried
// again. Nothing is taken from the program meanwhile: no signal, and no child that it does not wait for. For
// the end of one process the kernel offers a descriptor; for anything else a thread waits in the kernel
// without reaping (WNOWAIT) and wakes the fibers.
#include "interpose/children.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>

#include "fiber/private_fd.hpp"
#include "fiber/sys.hpp"
#include "interpose/calls.hpp"
#include "interpose/descriptor_state.hpp"
#include "interpose/descriptors.hpp"
#include "interpose/files.hpp"
#include "interpose/files_offload.hpp"
#include "poll/poller.hpp"

namespace weft::engine::interpose {

namespace {

constexpr int kChanges = WEXITED | WSTOPPED | WCONTINUED;
constexpr int kClones = __WALL | static_cast<int>(__WCLONE);

// These two are about the calling OS thread's own children.
bool of_this_thread_only(int options) noexcept {
  return options & __WNOTHREAD;
}

// Parks until the descriptor of a process is readable: it has ended. Returns 0 or an errno.
int wait_for_end(int process, const char* call) noexcept {
  return error_of(Poller::of_this_carrier().wait(process, POLLIN, kNever,
                                                 kCancellable | kInterruptible | kRestartable, call));
}

// The descriptor of a process, or a negated errno.
class ProcessDescriptor {
 public:
  explicit ProcessDescriptor(id_t process) noexcept {
    constexpr long kPidfdOpen = 434;
    fd_ = make_private_fd(static_cast<int>(sys::call(kPidfdOpen, process, 0)));
  }
  ~ProcessDescriptor() {
    if (fd_ < 0) return;
    Poller::closing(fd_);
    close_private_fd(fd_);
  }
  ProcessDescriptor(const ProcessDescriptor&) = delete;
  ProcessDescriptor& operator=(const ProcessDescriptor&) = delete;
  int get() const noexcept { return fd_; }

 private:
  int fd_;
};

// `attempt` makes the call with WNOHANG: true once it has an answer.
template <typename Attempt>
int wait_for_change(const ChildSelection& who, const char* call, Attempt&& attempt) noexcept {
  const bool end_only = (who.options & kChanges) == WEXITED;
  if (who.type == P_PID && end_only) {
    const ProcessDescriptor process(who.id);
    // It was looked at before the descriptor was there: somebody else may have reaped it, and the number be
    // used again.
    while (process.get() >= 0) {
      if (attempt()) return 0;
      if (const int error = wait_for_end(process.get(), call)) return error;
    }
  }
  if (who.type == P_PIDFD) {
    if (is_nonblocking(static_cast<int>(who.id)) > 0) return EAGAIN;
    while (end_only) {
      if (attempt()) return 0;
      if (const int error = wait_for_end(static_cast<int>(who.id), call)) return error;
    }
  }
  for (;;) {
    ChildWatch watch(who);  // before the attempt, so that no change falls between
    if (attempt()) return 0;
    if (const int error = watch.wait(call)) return error;
  }
}

ChildSelection selection_of(pid_t pid, int options) noexcept {
  const int changes = WEXITED | (options & (WSTOPPED | WCONTINUED | kClones));
  if (pid > 0) return {P_PID, static_cast<id_t>(pid), changes};
  if (pid == -1) return {P_ALL, 0, changes};
  if (pid == 0) return {P_PGID, static_cast<id_t>(sys::call(SYS_getpgid, 0)), changes};
  return {P_PGID, static_cast<id_t>(-static_cast<int64_t>(pid)), changes};
}

pid_t wait_for_child(const char* call, const void* caller, pid_t pid, int* status, int options,
                     rusage* usage) noexcept {
  if (!current_fiber() || (options & WNOHANG) || of_this_thread_only(options)) {
    PinScope pin(call, caller);
    return real::wait4(pid, status, options, usage);
  }
  const int kept = errno;
  pid_t result = 0;
  const auto attempt = [&]() noexcept {
    result = real::wait4(pid, status, options | WNOHANG, usage);
    return result != 0;
  };
  if (attempt()) return result;
  const int error = wait_for_change(selection_of(pid, options), call, attempt);
  if (error) return fail(error);
  if (result > 0) errno = kept;
  return result;
}

}  // namespace

pid_t routed::wait4(pid_t pid, int* status, int options, rusage* usage) noexcept {
  return wait_for_child("wait4", __builtin_return_address(0), pid, status, options, usage);
}

pid_t routed::wait3(int* status, int options, rusage* usage) noexcept {
  return wait_for_child("wait3", __builtin_return_address(0), -1, status, options, usage);
}

pid_t routed::waitpid(pid_t pid, int* status, int options) noexcept {
  return wait_for_child("waitpid", __builtin_return_address(0), pid, status, options, nullptr);
}

pid_t routed::__wait(int* status) noexcept {
  return wait_for_child("wait", __builtin_return_address(0), -1, status, 0, nullptr);
}

int routed::waitid(idtype_t type, id_t id, siginfo_t* info, int options) noexcept {
  if (!current_fiber() || (options & WNOHANG) || of_this_thread_only(options)) {
    PinScope pin("waitid", __builtin_return_address(0));
    return real::waitid(type, id, info, options);
  }
  const int kept = errno;
  int result = 0;
  siginfo_t own;
  siginfo_t* const seen = info ? info : &own;
  const auto attempt = [&]() noexcept {
    result = real::waitid(type, id, seen, options | WNOHANG);
    return result != 0 || seen->si_signo == SIGCHLD;
  };
  if (attempt()) return result;
  ChildSelection who{type, id, options & (kChanges | kClones)};
  if (type == P_PGID && id == 0) who.id = static_cast<id_t>(sys::call(SYS_getpgid, 0));
  if (const int error = wait_for_change(who, "waitid", attempt)) return fail(error);
  if (result == 0) errno = kept;
  return result;
}

// Whole on a pool thread: libc blocks SIGCHLD in the thread that makes the call, and the carrier has other
// fibers to serve. The command inherits the calling thread's signal mask, so the pool thread takes the
// fiber's on for that time.
int routed::system(const char* command) noexcept {
  Fiber* self = current_fiber();
  if (!self) {
    PinScope pin("system", __builtin_return_address(0));
    return real::system(command);
  }
  const uint64_t mask = self->identity().signal_mask;
  int result = -1;
  OffloadPool::instance().run("system", [&]() noexcept {
    uint64_t former = 0;
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &former, sizeof mask);
    result = real::system(command);
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &former, nullptr, sizeof former);
  });
  return result;
}

int routed::pclose(FILE* stream) noexcept {
  may_close(fileno(stream));
  return offload(WEFT_CALL(pclose), stream);
}

}  // namespace weft::engine::interpose
