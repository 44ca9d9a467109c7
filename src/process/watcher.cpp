#include "process/watcher.hpp"

#include <sys/epoll.h>

#include <cerrno>

#include "fiber/futex_lock.hpp"
#include "fiber/native_thread.hpp"
#include "fiber/private_fd.hpp"
#include "fiber/sys.hpp"
#include "weft/detail/io.hpp"

namespace weft::process {

namespace {

using engine::Guard;
namespace sys = engine::sys;

struct State {
  engine::FutexLock lock;  // guards the rest; never held while a source is called
  int epoll = -1;
  int sources = 0;
  bool running = false;  // there is a thread, and it will look at `sources` again
  long process = 0;      // whose it is: a fork child begins anew
};

constinit State g_state;

void* watch(void*) noexcept {
  const int epoll = g_state.epoll;
  for (;;) {
    epoll_event events[64];
    const long count = sys::call(SYS_epoll_wait, epoll, events, 64, -1);
    if (count < 0 && count != -EINTR) {  // somebody has closed it: what was watched is lost
      Guard guard(g_state.lock);
      g_state.epoll = -1;
      g_state.sources = 0;
      g_state.running = false;
      return nullptr;
    }
    // add() holds it until the source is watched: what was written before that is seen here.
    { Guard seen(g_state.lock); }
    int done = 0;
    for (long i = 0; i < count; ++i) {
      auto* source = static_cast<Source*>(events[i].data.ptr);
      const int fd = source->fd;
      if (source->ready()) continue;
      // It may be gone already; its number is not, which is closed here alone.
      sys::call(SYS_epoll_ctl, epoll, EPOLL_CTL_DEL, fd, nullptr);
      weft::detail::close_descriptor(fd);
      ++done;
    }
    if (done == 0) continue;
    Guard guard(g_state.lock);
    if ((g_state.sources -= done) > 0) continue;
    g_state.running = false;
    return nullptr;
  }
}

}  // namespace

int Watcher::add(Source& source) noexcept {
  Guard guard(g_state.lock);
  if (const long process = sys::call(SYS_getpid); g_state.process != process) {
    engine::close_private_fd(g_state.epoll);
    g_state.process = process;
    g_state.epoll = -1;
    g_state.sources = 0;
    g_state.running = false;
  }
  if (g_state.epoll < 0) {
    const long epoll = sys::call(SYS_epoll_create1, EPOLL_CLOEXEC);
    if (epoll < 0) return static_cast<int>(-epoll);
    g_state.epoll = engine::make_private_fd(static_cast<int>(epoll));
  }
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = &source;
  if (const long error = sys::call(SYS_epoll_ctl, g_state.epoll, EPOLL_CTL_ADD, source.fd, &event); error < 0)
    return static_cast<int>(-error);
  ++g_state.sources;
  if (g_state.running) return 0;
  pthread_t thread;
  if (const int error = engine::start_native_thread(thread, "weft-process", watch, nullptr)) {
    sys::call(SYS_epoll_ctl, g_state.epoll, EPOLL_CTL_DEL, source.fd, nullptr);
    --g_state.sources;
    return error;
  }
  pthread_detach(thread);
  g_state.running = true;
  return 0;
}

}  // namespace weft::process
