// weft-keeper: stands between a program and one command. It is the command's parent and the subreaper of all
// that descends from it, does what the program asks for, and ends the whole tree when the program says so or
// is no more.
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>

#include "command.hpp"
#include "process/tree.hpp"

namespace weft::process {

namespace {

int64_t now_ms() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1000 + time.tv_nsec / 1'000'000;
}

constexpr int64_t kLongestKilling = 30'000;  // milliseconds

class Keeper {
 public:
  int run();

 private:
  void tell(const Event& event) {
    [[maybe_unused]] const ssize_t sent = send(kControlFd, &event, sizeof event, MSG_NOSIGNAL);
  }
  bool listen(int timeout);  // false: the program is no more
  void obey(const Request& request);
  void reap();
  void send_signal(int signal, Scope scope);
  void tell_rest();
  void end(int signal, int64_t grace);
  void kill_round();
  [[noreturn]] void give_up(const Event& event);

  pid_t command_ = -1;     // -1 once it was waited for
  pid_t group_ = -1;       // the command's
  pid_t told_group_ = -1;  // which has got end_signal_
  bool any_left_ = true;   // of the whole tree
  bool ending_ = false, killing_ = false, orphaned_ = false;
  int end_signal_ = SIGTERM;
  bool rest_told_ = false;  // what the command left behind has got end_signal_
  int64_t deadline_ = 0, killing_since_ = 0;
  int rounds_ = 0;
  int children_ = -1, parent_ = -1;  // descriptors
};

void Keeper::reap() {
  signalfd_siginfo drained[16];
  while (read(children_, drained, sizeof drained) > 0) {
  }
  for (;;) {
    int status;
    const pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid == 0) return;
    if (pid < 0) {
      if (errno == EINTR) continue;
      any_left_ = false;  // ECHILD: of a subreaper's tree nothing is left when it has no child
      return;
    }
    if (pid == command_) {
      command_ = -1;
      tell({What::kExited, status});
    }
  }
}

void Keeper::send_signal(int signal, Scope scope) {
  // While the command has not been waited for, its number and its group's are its own.
  if (scope == Scope::kCommand && command_ > 0) kill(command_, signal);
  if (scope == Scope::kGroup && command_ > 0) kill(-command_, signal);
  if (scope == Scope::kTree || (scope == Scope::kGroup && command_ < 0))
    for (const Process& process : descendants(getpid()))
      if (scope == Scope::kTree || process.group == group_) signal_descendant(process.pid, signal);
}

// What the command leaves behind. Who is in its group has been told already, and might take a second time for
// haste.
void Keeper::tell_rest() {
  rest_told_ = true;
  for (const Process& process : descendants(getpid())) {
    if (process.group == told_group_) continue;
    signal_descendant(process.pid, end_signal_);
    signal_descendant(process.pid, SIGCONT);
  }
}

void Keeper::end(int signal, int64_t grace) {
  const int64_t deadline = now_ms() + grace;
  if (ending_ && deadline >= deadline_) return;
  deadline_ = deadline;
  if (ending_) return;
  ending_ = true;
  end_signal_ = signal;
  if (command_ < 0) return;
  told_group_ = command_;
  send_signal(signal, Scope::kGroup);
  send_signal(SIGCONT, Scope::kGroup);  // one that is stopped would not see it
}

void Keeper::obey(const Request& request) {
  switch (request.wish) {
    case Wish::kSignal:
      return send_signal(request.signal, request.scope);
    case Wish::kEnd:
      return end(request.signal, request.grace_ms);
  }
}

bool Keeper::listen(int timeout) {
  pollfd sources[] = {{children_, POLLIN, 0},
                      {orphaned_ ? -1 : kControlFd, POLLIN, 0},
                      {orphaned_ ? -1 : parent_, POLLIN, 0}};
  if (poll(sources, 3, timeout) < 0 && errno != EINTR) return false;
  if (sources[2].revents) return false;
  while (!orphaned_) {
    Request request;
    const ssize_t size = recv(kControlFd, &request, sizeof request, MSG_DONTWAIT);
    if (size == sizeof request) {
      obey(request);
      continue;
    }
    return size < 0 && (errno == EAGAIN || errno == EINTR);
  }
  return true;
}

// One round of killing: all are stopped first, so that none forks while the others are looked for.
void Keeper::kill_round() {
  if (command_ > 0) kill(-command_, SIGKILL);
  const std::vector<Process> family = descendants(getpid());
  for (const Process& process : family) signal_descendant(process.pid, SIGSTOP);
  int failed = 0, error = 0, which = 0;
  for (const Process& process : family)
    if (const int failure = signal_descendant(process.pid, SIGKILL); failure && failure != ESRCH) {
      ++failed;
      error = failure;
      which = process.pid;
    }
  if (failed && failed == static_cast<int>(family.size()) && ++rounds_ > 50)
    give_up({What::kStuck, failed, which, error});
  // In a system call that nothing ends, as of a file system that is gone.
  if (now_ms() > killing_since_ + kLongestKilling)
    give_up({What::kStuck, std::max(1, static_cast<int>(family.size())),
             family.empty() ? 0 : family.front().pid, ETIMEDOUT});
}

void Keeper::give_up(const Event& event) {
  tell(event);
  _exit(1);
}

int Keeper::run() {
  prctl(PR_SET_NAME, "weft-keeper");
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);

  Command command;
  if (!read_order(command)) {
    fputs("weft-keeper: it is started by Weft's library, and not of the same version\n", stderr);
    tell({What::kFailed, EPROTO, static_cast<int32_t>(Stage::kOrder)});
    return 1;
  }
  close(kOrderFd);
  // What the program has open and did not mark: its other ends are not to wait for this process.
  close_from(kFirstPassedFd + static_cast<int>(command.order.passed));
  children_ = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
  // Who is forked by the program holds the other end of the control socket, too: only this tells its death
  // for sure.
  parent_ = static_cast<int>(syscall(SYS_pidfd_open, command.order.parent, 0));
  if (getppid() != command.order.parent) return 1;

  const Started started = start(command);
  if (started.pid < 0) {
    tell({What::kFailed, started.error, static_cast<int32_t>(started.stage)});
    return 1;
  }
  command_ = group_ = started.pid;
  tell({What::kStarted, started.pid});
  // The other ends of these are the command's only, so that the program sees their end.
  for (int fd = 0; fd < kControlFd; ++fd) close(fd);
  for (uint32_t i = 0; i < command.order.passed; ++i) close(kFirstPassedFd + static_cast<int>(i));

  // The program's folder is not to be kept busy.
  [[maybe_unused]] const int moved = chdir("/");

  int64_t pause = 1;
  for (;;) {
    reap();
    if (!any_left_) break;
    int timeout = -1;
    if (ending_) {
      const int64_t now = now_ms();
      if (now >= deadline_) killing_ = true;
      if (killing_ && !killing_since_) killing_since_ = now;
      if (killing_) {
        kill_round();
        timeout = static_cast<int>(pause = pause < 50 ? pause * 2 : 50);
      } else {
        if (command_ < 0 && !rest_told_) tell_rest();
        timeout = static_cast<int>(deadline_ - now);
      }
    }
    if (!listen(timeout)) orphaned_ = ending_ = killing_ = true;
  }
  tell({What::kGone, killing_});
  return 0;
}

}  // namespace

}  // namespace weft::process

int main() {
  return weft::process::Keeper().run();
}
