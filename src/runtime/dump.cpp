#include "runtime/dump.hpp"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <new>

#include "fiber/private_fd.hpp"
#include "fiber/sys.hpp"
#include "host/python.hpp"
#include "host/text_sink.hpp"
#include "interpose/interpose.hpp"
#include "runtime/dump_address.hpp"
#include "runtime/dump_stack.hpp"
#include "runtime/dump_stop.hpp"

namespace weft::engine::dump {

namespace {

int own_pid() noexcept {
  return static_cast<int>(sys::call(SYS_getpid));
}

void write_all(int fd, std::string_view text) noexcept {
  while (!text.empty()) {
    const long written = sys::call(SYS_write, fd, text.data(), text.size());
    if (written == -EINTR) continue;
    if (written <= 0) return;  // the reader has gone, or does not read
    text.remove_prefix(static_cast<size_t>(written));
  }
}

// Serves two descriptors behind one: connections, and the bell that the signal handler rings.
class Service final : public MonitorService {
 public:
  explicit Service(Runtime& runtime) noexcept : runtime_(runtime) {}

  // In a fork child that has not come to reset_after_fork() yet, the descriptors are still the parent's.
  int descriptor() const noexcept override {
    return owner_.load(std::memory_order_acquire) == own_pid() ? both_ : -1;
  }

  void serve() noexcept override {
    epoll_event events[2];
    const long count = sys::call(SYS_epoll_wait, both_, events, 2, 0);
    for (long i = 0; i < count; ++i) {
      if (events[i].data.fd == bell_) {
        uint64_t rings;
        sys::call(SYS_read, bell_, &rings, sizeof rings);
        write_dump(STDERR_FILENO, Form::kGrouped);
      } else {
        answer();
      }
    }
  }

  // Async-signal-safe. False if nobody would hear it.
  bool ring() noexcept {
    if (owner_.load(std::memory_order_acquire) != own_pid()) return false;
    const uint64_t one = 1;
    return sys::call(SYS_write, bell_, &one, sizeof one) == sizeof one;
  }

  void open() noexcept {
    both_ = make_private_fd(static_cast<int>(sys::call(SYS_epoll_create1, EPOLL_CLOEXEC)));
    bell_ = make_private_fd(static_cast<int>(sys::call(SYS_eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC)));
    listener_ = make_private_fd(
        static_cast<int>(sys::call(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
    sockaddr_un address;
    const socklen_t length = socket_address(own_pid(), address);
    if (sys::call(SYS_bind, listener_, &address, length) < 0 || sys::call(SYS_listen, listener_, 8) < 0) {
      close_private_fd(listener_);
      listener_ = -1;
    }
    for (const int fd : {bell_, listener_}) {
      epoll_event event{EPOLLIN, {.fd = fd}};
      if (fd >= 0) sys::call(SYS_epoll_ctl, both_, EPOLL_CTL_ADD, fd, &event);
    }
    owner_.store(own_pid(), std::memory_order_release);
    runtime_.monitor().set_service(this);
  }

  void reset_after_fork() noexcept {
    CarrierStop::instance().reset_after_fork();
    for (int* fd : {&both_, &bell_, &listener_}) {
      close_private_fd(*fd);
      *fd = -1;
    }
    // A child of a native thread has no runtime until it creates a thread.
    if (Runtime::get()) open();
  }

 private:
  void answer() noexcept {
    const int fd = static_cast<int>(sys::call(SYS_accept4, listener_, nullptr, nullptr, SOCK_CLOEXEC));
    if (fd < 0) return;
    ucred peer{};
    socklen_t size = sizeof peer;
    const bool known = sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
    if (known && (peer.uid == 0 || peer.uid == static_cast<uid_t>(sys::call(SYS_geteuid)))) {
      // A client that does not ask or does not read must not hold up the monitor.
      const timeval patience{2, 0}, patience_for_request{0, 200'000};
      sys::call(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
      sys::call(SYS_setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, &patience_for_request,
                sizeof patience_for_request);
      write_dump(fd, requested_form(fd));
    }
    sys::call(SYS_close, fd);
  }

  static Form requested_form(int fd) noexcept {
    char request[16];
    const long size = sys::call(SYS_read, fd, request, sizeof request);
    return size > 0 && std::string_view(request, static_cast<size_t>(size)) == kRequestAll ? Form::kAll
                                                                                           : Form::kGrouped;
  }

  void write_dump(int fd, Form form) noexcept {
    try {
      host::Python::find();
      write_all(fd, take(runtime_.carrier(), form));
    } catch (const std::bad_alloc&) {
      write_all(fd, "weft: no memory for a dump\n");
    }
  }

  Runtime& runtime_;
  std::atomic<int> owner_{0};  // the process whose descriptors these are
  int both_ = -1, bell_ = -1, listener_ = -1;
};

constinit std::atomic<Service*> g_service{nullptr};

void handle_signal(int) noexcept {
  if (Service* service = g_service.load(std::memory_order_acquire); service && service->ring()) return;
  char reason[160];
  host::BufferSink sink(reason, sizeof reason);
  interpose::describe_no_fibers(sink);
  write_all(STDERR_FILENO, "weft: there is no fiber to dump: ");
  write_all(STDERR_FILENO, reason[0] ? reason : "this process has created no thread yet");
  write_all(STDERR_FILENO, "\n");
}

}  // namespace

void serve(Runtime& runtime) noexcept {
  if (g_service.load(std::memory_order_acquire)) return;
  prepare_stack_walk();
  alignas(Service) static std::byte storage[sizeof(Service)];
  auto* service = new (storage) Service(runtime);
  service->open();
  g_service.store(service, std::memory_order_release);
  pthread_atfork(nullptr, nullptr, [] { g_service.load(std::memory_order_relaxed)->reset_after_fork(); });
}

void on_signal(int signal) noexcept {
  struct sigaction action {};
  action.sa_handler = &handle_signal;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

bool is_handler(const struct sigaction& action) noexcept {
  return !(action.sa_flags & SA_SIGINFO) && action.sa_handler == &handle_signal;
}

}  // namespace weft::engine::dump
