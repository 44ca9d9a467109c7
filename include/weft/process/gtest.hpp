// ProcessTest: a GoogleTest fixture for tests that need services running.
#pragma once

#include <dirent.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <list>
#include <map>
#include <set>

#include "weft/fiber.hpp"
#include "weft/process/executors.hpp"

namespace weft::process {

/// A port of 127.0.0.1 that is this test's: a socket is bound to it, so that nobody else is given it. Nobody
/// is accepted there meanwhile.
class HeldPort {
 public:
  /// std::system_error: there is none, or no descriptor.
  HeldPort() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int on = 1;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    if (fd_ < 0 || ::setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        ::bind(fd_, any, size) != 0 || ::getsockname(fd_, any, &size) != 0) {
      const int error = errno;
      release();
      detail::throw_errno(error, "weft::process::HeldPort: no free port");
    }
    number_ = ntohs(address.sin_port);
  }
  HeldPort(HeldPort&& other) noexcept : fd_(std::exchange(other.fd_, -1)), number_(other.number_) {}
  HeldPort& operator=(HeldPort&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(number_, other.number_);
    return *this;
  }
  ~HeldPort() { release(); }

  int number() const noexcept { return number_; }
  std::string text() const { return std::to_string(number_); }
  /// Lets it go, for the service. One that sets SO_REUSEADDR, as most do, is given the port also while it is
  /// held, and then nobody can come in between.
  void release() noexcept {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  friend class ListeningSocket;
  int fd_;
  int number_ = 0;
};

/// A TCP socket of 127.0.0.1 that listens, for a service that takes it from systemd: as descriptor 3, with
/// LISTEN_FDS=1. There is never a moment at which somebody else could take the port, or a client be refused:
/// who connects before the service accepts waits in the queue.
///
/// So Readiness::tcp() and http() are of no use with it: they find that something listens already. Wait for
/// output, or for nothing.
class ListeningSocket {
 public:
  ListeningSocket() {
    if (::listen(port_.fd_, SOMAXCONN) != 0) detail::throw_errno(errno, "weft::process::ListeningSocket");
  }
  int port() const noexcept { return port_.number(); }

  /// To be given to the Executor; the socket is to be there at its start. LISTEN_PID is to be the process id
  /// of the service, which is not known before: see with_listen_pid().
  void pass(Options& options) const {
    options.passed.push_back({port_.fd_, 3});
    options.environment["LISTEN_FDS"] = "1";
  }
  /// The same command, by a shell that sets LISTEN_PID and then becomes it: for services that compare it, as
  /// those do that use sd_listen_fds().
  static Command with_listen_pid(const Command& command) {
    std::vector<std::string> words = command.arguments(false);
    words.insert(words.begin(), {"/bin/sh", "-c", "LISTEN_PID=$$; export LISTEN_PID; exec \"$@\"", "sh"});
    return words;
  }
  /// Closes the program's own: the service's is open.
  void close() noexcept { port_.release(); }

 private:
  HeldPort port_;
};

/// Services for the tests of a suite. A service that ends before the test does, without stop() or kill(),
/// fails the test, with what it wrote last; and so does a process or a descriptor that a test leaves behind.
///
///     class Shop : public weft::process::ProcessTest {
///       static void SetUpTestSuite() { database = &start_for_suite(TcpExecutor("postgres ...", ...)); }
///       static inline weft::process::Executor* database;
///     };
///     TEST_F(Shop, Sells) {
///       auto& queue = start(TcpExecutor("redis-server --port " + port.text(), ...));
///     }
///
/// What overrides SetUp(), TearDown() or TearDownTestSuite() calls that of this class, too.
class ProcessTest : public ::testing::Test {
 public:
  /// Starts a service that lives until the suite ends. To be called in SetUpTestSuite(). What start() throws
  /// passes through.
  static Executor& start_for_suite(Executor executor) { return start_in(suite(), std::move(executor)); }
  static void TearDownTestSuite() { end_all(suite()); }

 protected:
  /// Starts a service that lives until the test ends.
  Executor& start(Executor executor) { return start_in(services_, std::move(executor)); }

  /// A port that is held until the test ends, or it is released.
  HeldPort& free_port() { return ports_.emplace_back(); }
  /// One that is open until the test ends, or is closed.
  ListeningSocket& listening_socket() { return sockets_.emplace_back(); }

  void SetUp() override {
    // What the library opens once for all is open from here on.
    static const bool warm = [] {
      Executor("/bin/sh -c :").start().wait();
      return true;
    }();
    static_cast<void>(warm);
    settle([former = Descriptors()]() mutable {
      Descriptors present = descriptors();
      return std::exchange(former, present) == present;
    });
    descriptors_ = descriptors();
    children_ = children();
  }
  /// Ends the test's services, the last first.
  void TearDown() override {
    for (auto* services : {&services_, &suite()})
      for (const Executor& executor : *services)
        if (!executor.running() && !executor.stopped()) report_death(executor);
    end_all(services_);
    ports_.clear();
    sockets_.clear();
    // What a command had is closed some moments after its end is known.
    settle([this] { return descriptors() == descriptors_ && only_former(children()); });
    for (const auto& [fd, target] : descriptors())
      if (const auto former = descriptors_.find(fd); former == descriptors_.end() || former->second != target)
        ADD_FAILURE() << "the test leaves descriptor " << fd << " open: " << target;
    for (const pid_t pid : children())
      if (!children_.contains(pid)) ADD_FAILURE() << "the test leaves a child process: " << pid;
  }

 private:
  using Services = std::list<Executor>;
  using Descriptors = std::map<int, std::string>;

  static Services& suite() {
    static Services services;
    return services;
  }
  static Executor& start_in(Services& services, Executor executor) {
    services.push_back(std::move(executor));
    try {
      return services.back().start();
    } catch (...) {
      services.pop_back();
      throw;
    }
  }
  static void end_all(Services& services) {
    for (; !services.empty(); services.pop_back()) try {
        if (services.back().running()) services.back().stop();
      } catch (const StopError& error) {
        ADD_FAILURE() << error.what();
      }
  }
  static void report_death(const Executor& executor) {
    const std::optional<int> code = executor.exit_code();
    ADD_FAILURE() << "`" << executor.name() << "` "
                  << (code ? detail::describe_exit(*code) : std::string("is of another process"))
                  << " during the test. Its last output:\n"
                  << executor.last_output();
  }

  template <typename Holds>
  static void settle(Holds&& holds) {
    const detail::Nanos limit = detail::deadline_after(std::chrono::seconds(2));
    while (!holds() && detail::now() < limit) weft::sleep(std::chrono::milliseconds(1));
  }
  template <typename Function>
  static void for_numbers_in(const char* folder, Function&& function) {
    DIR* const list = ::opendir(folder);
    while (const dirent* entry = list ? ::readdir(list) : nullptr)
      if (const int number = atoi(entry->d_name); entry->d_name[0] >= '0' && entry->d_name[0] <= '9')
        function(number, ::dirfd(list));
    if (list) ::closedir(list);
  }
  // Without those of the engine: it makes some when a test is the first to need them.
  static Descriptors descriptors() {
    Descriptors all;
    for_numbers_in("/proc/self/fd", [&](int fd, int own) {
      if (fd == own) return;
      char target[256];
      const ssize_t size = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), target, sizeof target);
      const std::string text(target, size < 0 ? 0 : static_cast<size_t>(size));
      if (!text.starts_with("anon_inode:")) all[fd] = text;
    });
    return all;
  }
  static std::set<pid_t> children() {
    std::set<pid_t> all;
    for_numbers_in("/proc", [&](pid_t pid, int) {
      FILE* const file = ::fopen(("/proc/" + std::to_string(pid) + "/stat").c_str(), "re");
      if (!file) return;
      char text[512];
      const size_t size = ::fread(text, 1, sizeof text - 1, file);
      ::fclose(file);
      text[size] = 0;
      const char* const after = ::strrchr(text, ')');
      if (int parent; after && ::sscanf(after + 1, " %*c %d", &parent) == 1 && parent == ::getpid())
        all.insert(pid);
    });
    return all;
  }
  bool only_former(const std::set<pid_t>& present) const {
    return std::includes(children_.begin(), children_.end(), present.begin(), present.end());
  }

  Services services_;
  std::deque<HeldPort> ports_;
  std::deque<ListeningSocket> sockets_;
  Descriptors descriptors_;
  std::set<pid_t> children_;
};

}  // namespace weft::process
