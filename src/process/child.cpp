#include "process/child.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <new>
#include <string>

#include "fiber/sys.hpp"
#include "net/wait.hpp"
#include "process/places.hpp"
#include "weft/detail/io.hpp"

namespace weft::detail {

using engine::Guard;
using namespace weft::process;
namespace sys = engine::sys;

static_assert(static_cast<uint32_t>(ChildStage::kExecute) == static_cast<uint32_t>(Stage::kExecute));

Child::Child(const Launched& launched, size_t kept_output) noexcept
    : control_(*this),
      keeper_end_(*this),
      output_(*this, kept_output),
      errors_(*this, kept_output),
      keeper_(launched.keeper) {
  owner_ = static_cast<pid_t>(sys::call(SYS_getpid));
  control_.fd = launched.control;
  // Where there is none, its socket has to do.
  keeper_end_.fd = static_cast<int>(std::max(sys::call(SYS_pidfd_open, launched.keeper, 0), -1L));
  output_.fd = launched.output;
  errors_.fd = launched.errors;
  output_.exists = launched.output >= 0;
  errors_.exists = launched.errors >= 0;
  input_ = launched.input;
}

Child::~Child() {
  if (input_ >= 0) close_descriptor(input_);
}

bool Child::is_foreign() const noexcept {
  return sys::call(SYS_getpid) != owner_;
}

void Child::changed() noexcept {
  changes_.fetch_add(1, std::memory_order_release);
  wake(&changes_);
}

// Begins to watch. Without memory or a thread for that, the tree is killed: the keeper sees the end of its
// socket.
int Child::watch() noexcept {
  Source* const sources[] = {&control_, &output_, &errors_, &keeper_end_};
  for (Source* source : sources) {
    if (source->fd < 0) continue;
    references_.fetch_add(1, std::memory_order_relaxed);
    if (const int error = Watcher::add(*source)) {
      references_.fetch_sub(1, std::memory_order_relaxed);
      return error;
    }
    watched_.fetch_add(1, std::memory_order_relaxed);
  }
  return 0;
}

namespace {

alignas(64) constinit char g_read[64 * 1024];  // of the watcher's thread

void reap(pid_t keeper) noexcept {
  while (sys::call(SYS_wait4, keeper, nullptr, 0, nullptr) == -EINTR) {
  }
}

}  // namespace

// What read(2) returned.
long Child::Stream::read_some() noexcept {
  const long size = sys::call(SYS_read, fd, g_read, sizeof g_read);
  if (size > 0) kept.append(g_read, static_cast<size_t>(size));
  return size;
}

void Child::Stream::drain() noexcept {
  // As much as the largest pipe holds: who writes on is not of the tree.
  long size = 1;
  for (int i = 0; i < 64 && !at_end && (size > 0 || size == -EINTR); ++i) size = read_some();
}

bool Child::Stream::ready() noexcept {
  const long size = read_some();
  if (size == -EAGAIN || size == -EINTR) return true;
  if (size <= 0) {
    at_end = true;
    kept.finish();
  }
  child.changed();
  if (size > 0) return true;
  release_child(&child);
  return false;
}

bool Child::Control::ready() noexcept {
  Event event;
  const long size = sys::call(SYS_recvfrom, fd, &event, sizeof event, MSG_DONTWAIT, nullptr, nullptr);
  // ECONNRESET comes once, before what the keeper told, if it ended without having read all that it was sent.
  if (size == -EAGAIN || size == -EINTR || size == -ECONNRESET) return true;
  if (size == sizeof event) {
    child.note(event);
    // The end of the socket need not follow: a fork of the program may hold the keeper's side of it.
    if (event.what == What::kExited) return true;
  }
  child.lose_keeper();
  release_child(&child);
  return false;
}

// What it told last is read before the socket's end is seen.
bool Child::Keeper::ready() noexcept {
  {
    Guard guard(child.lock_);  // while it is open, the number is that of the socket
    if (child.control_open_) sys::call(SYS_shutdown, child.control_.fd, SHUT_RDWR);
  }
  release_child(&child);
  return false;
}

void Child::note(const Event& event) noexcept {
  {
    Guard guard(lock_);
    if (event.what == What::kExited) {
      state_.exited = true;
      state_.status = event.a;
    } else if (event.what == What::kGone) {
      told_end_ = true;
      state_.forced = event.a;
    } else if (event.what == What::kStuck) {
      told_end_ = true;
      state_.stuck = event.a;
      state_.stuck_pid = event.b;
      state_.stuck_error = event.c;
    }
  }
  if (event.what == What::kExited) changed();
}

// It has ended, by itself or by somebody's hand: then the command was killed with it.
void Child::lose_keeper() noexcept {
  reap(keeper_);
  // First, so that who sees that it is gone finds all that it wrote. Somebody outside of the tree may have
  // been given the pipes' other ends: who reads is not to wait for that.
  for (Stream* stream : {&output_, &errors_}) {
    if (!stream->exists) continue;
    stream->drain();
    stream->kept.finish();
  }
  {
    Guard guard(lock_);
    control_open_ = false;
    if (!state_.exited) {
      state_.exited = true;
      state_.status = SIGKILL;
    }
    state_.gone = true;
    state_.lost = !told_end_;
  }
  changed();
}

int Child::send(const Request& request) noexcept {
  if (is_foreign()) return ECHILD;
  Guard guard(lock_);
  if (!control_open_) return ESRCH;
  const long sent =
      sys::call(SYS_sendto, control_.fd, &request, sizeof request, MSG_NOSIGNAL | MSG_DONTWAIT, nullptr, 0);
  // So many signals wait there that this has no place: the end of the socket has, and the keeper kills then.
  if (sent == -EAGAIN && request.wish == Wish::kEnd) sys::call(SYS_shutdown, control_.fd, SHUT_WR);
  return sent < 0 ? static_cast<int>(-sent) : 0;
}

namespace {

// The keeper's first word. False: `failure` or `outcome` tell why the command does not run.
bool hear_first(const Launched& launched, Nanos deadline, pid_t& pid, ChildFailure& failure,
                Outcome& outcome) noexcept {
  for (;;) {
    Event event;
    const long size =
        sys::call(SYS_recvfrom, launched.control, &event, sizeof event, MSG_DONTWAIT, nullptr, nullptr);
    if (size == sizeof event && event.what == What::kStarted) {
      pid = event.a;
      return true;
    }
    if (size == sizeof event && event.what == What::kFailed) {
      failure = {event.a, static_cast<ChildStage>(event.b)};
      return false;
    }
    if (size != -EAGAIN && size != -EINTR) {  // it ended without a word
      failure = {size < 0 ? static_cast<int>(-size) : ECHILD, ChildStage::kKeeper};
      return false;
    }
    const IoResult waited = wait_for_descriptor(launched.control, POLLIN, deadline, "start_child");
    if (waited.outcome != Outcome::kReady) {
      outcome = waited.outcome;
      return false;
    }
  }
}

// The keeper sees the end of its socket and kills what it has started; that takes a moment.
void abandon(const Launched& launched) noexcept {
  for (const int fd : {launched.control, launched.input, launched.output, launched.errors})
    if (fd >= 0) close_descriptor(fd);
  // One whose command hangs before it runs, on a file system that is gone, sees no end of its socket.
  if (const long process = sys::call(SYS_pidfd_open, launched.keeper, 0); process >= 0) {
    pollfd end{static_cast<int>(process), POLLIN, 0};
    const Nanos limit = now() + 2'000'000'000;
    if (engine::poll_until({&end, 1}, limit) == 0) sys::call(SYS_kill, launched.keeper, SIGKILL);
    sys::call(SYS_close, process);
  }
  reap(launched.keeper);
}

}  // namespace

Child* start_child(const ChildRequest& request, Nanos deadline, ChildFailure& failure,
                   Outcome& outcome) noexcept {
  failure = {};
  outcome = Outcome::kReady;
  Launched launched;
  if (launch(request, launched, failure) != 0) return nullptr;
  pid_t pid;
  if (!hear_first(launched, deadline, pid, failure, outcome)) {
    abandon(launched);
    return nullptr;
  }
  auto* child = new (std::nothrow) Child(launched, request.kept_output);
  if (!child) {
    abandon(launched);
    failure = {ENOMEM, ChildStage::kKeeper};
    return nullptr;
  }
  child->state_.pid = pid;
  if (const int error = child->watch()) {
    failure = {error, ChildStage::kKeeper};
    child->give_up_unwatched();
    release_child(child);
    return nullptr;
  }
  return child;
}

// What no watcher will close.
void Child::give_up_unwatched() noexcept {
  Source* const sources[] = {&control_, &output_, &errors_, &keeper_end_};
  int skip = watched_.load(std::memory_order_relaxed);
  if (skip > 0) end_child(this, SIGKILL, 0);
  for (Source* source : sources) {
    if (source->fd < 0 || skip-- > 0) continue;
    if (source == &control_) {
      control_open_ = false;
      close_descriptor(source->fd);
      reap(keeper_);
    } else {
      close_descriptor(source->fd);
    }
    source->fd = -1;
  }
  // What is not watched is not drained either.
  for (Stream* stream : {&output_, &errors_})
    if (stream->fd < 0) stream->exists = false;
}

void retain_child(Child* child) noexcept {
  child->references_.fetch_add(1, std::memory_order_relaxed);
}

void release_child(Child* child) noexcept {
  // What the watcher holds is not what keeps a command running.
  const uint32_t left = child->references_.fetch_sub(1, std::memory_order_acq_rel) - 1;
  if (left == 0) delete child;
}

ChildState child_state(const Child* child) noexcept {
  if (child->is_foreign()) {
    ChildState state;
    state.foreign = true;
    return state;
  }
  Guard guard(child->lock_);
  return child->state_;
}

uint32_t child_changes(const Child* child) noexcept {
  return child->changes_.load(std::memory_order_acquire);
}

Outcome await_child(Child* child, uint32_t seen, Nanos deadline, uint8_t flags) noexcept {
  return await(&child->changes_, deadline, flags, "await_child",
               [&]() noexcept { return child->changes_.load(std::memory_order_acquire) != seen; });
}

void child_places(const Child* child, char* text, size_t size) noexcept {
  size_t used = 0;
  if (const ChildState state = child_state(child); !state.gone && !state.foreign) try {
      for (const std::string& place : listening_places(child->keeper_)) {
        const size_t wanted = place.size() + (used ? 2 : 0);
        if (used + wanted >= size) break;
        used +=
            static_cast<size_t>(snprintf(text + used, size - used, "%s%s", used ? ", " : "", place.c_str()));
      }
    } catch (const std::exception&) {  // no memory
    }
  text[used] = 0;
}

int signal_child(Child* child, int signal, ChildScope scope) noexcept {
  if (child->is_foreign()) return ECHILD;
  const ChildState state = child_state(child);
  if (state.gone || (state.exited && scope == ChildScope::kCommand)) return ESRCH;
  return child->send({Wish::kSignal, signal, static_cast<Scope>(scope), 0});
}

void end_child(Child* child, int signal, Nanos grace) noexcept {
  const Nanos milliseconds = grace <= 0 ? 0 : std::min<Nanos>((grace - 1) / 1'000'000 + 1, UINT32_MAX / 2);
  child->send({Wish::kEnd, signal, Scope::kGroup, static_cast<uint32_t>(milliseconds)});
}

size_t read_child(const Child* child, int stream, uint64_t& position, char* buffer, size_t size,
                  bool& ended) noexcept {
  if (child->is_foreign() || !child->stream(stream).exists) {
    ended = true;
    return 0;
  }
  return child->stream(stream).kept.read(position, buffer, size, ended);
}

uint64_t child_output_end(const Child* child, int stream, uint64_t& first) noexcept {
  return child->stream(stream).kept.end(first);
}

bool child_has_stream(const Child* child, int stream) noexcept {
  return stream == 0 ? child->input_.load() >= 0 : child->stream(stream).exists;
}

int child_input(const Child* child) noexcept {
  return child->input_.load();
}

void close_child_input(Child* child) noexcept {
  if (const int fd = child->input_.exchange(-1); fd >= 0) close_descriptor(fd);
}

Nanos probe_pause(Nanos waited, Nanos longest) noexcept {
  constexpr Nanos kLeast = 1'000'000;
  const Nanos pause = std::max(kLeast, std::min(waited / 16, longest));
  // The last bits of the clock are as good as any chance here.
  const Nanos fifth = pause / 5;
  return pause - fifth +
         static_cast<Nanos>((static_cast<uint64_t>(now()) * 0x9E3779B97F4A7C15u >> 32) %
                            static_cast<uint64_t>(2 * fifth + 1));
}

}  // namespace weft::detail
