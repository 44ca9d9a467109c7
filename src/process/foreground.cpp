#include "process/foreground.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace weft::process {

Signals::Signals() {
  sigset_t wanted;
  sigemptyset(&wanted);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT}) {
    struct sigaction action {};
    sigaction(number, nullptr, &action);
    if (action.sa_handler != SIG_IGN) sigaddset(&wanted, number);
  }
  sigaddset(&wanted, SIGCHLD);
  sigset_t blocked = wanted;
  sigaddset(&blocked, SIGPIPE);  // standard error may have no reader any more
  pthread_sigmask(SIG_BLOCK, &blocked, &former_mask_);
  // Where it is ignored, children vanish without having been waited for.
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &standard, &former_child_);
  descriptor_ = OwnedDescriptor(signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!descriptor_) throw std::system_error(errno, std::system_category(), "signalfd");
}

Signals::~Signals() {
  restore();
}

void Signals::restore() const noexcept {
  sigaction(SIGCHLD, &former_child_, nullptr);
  pthread_sigmask(SIG_SETMASK, &former_mask_, nullptr);
}

signalfd_siginfo Signals::wait() {
  for (;;) {
    signalfd_siginfo info;
    const ssize_t size = ::read(descriptor_.get(), &info, sizeof info);
    if (size == sizeof info) return info;
    if (size < 0 && errno != EAGAIN && errno != EINTR)
      throw std::system_error(errno, std::system_category(), "signalfd");
    wait_readable(descriptor_.get());
  }
}

void Signals::stop_self() const {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTSTP);
  ::kill(getpid(), SIGTSTP);
  pthread_sigmask(SIG_UNBLOCK, &stop, nullptr);  // it happens here
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);
}

int Foreground::start(const std::vector<std::string>& words) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) return errno;
  const pid_t self = getpid();
  const pid_t pid = fork();
  if (pid < 0) {
    const int error = errno;
    close(report[0]);
    close(report[1]);
    return error;
  }
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != self) _exit(127);
    signals_.restore();
    execvp(arguments[0], arguments.data());
    const int error = errno;
    [[maybe_unused]] const ssize_t written = ::write(report[1], &error, sizeof error);
    _exit(127);
  }
  close(report[1]);
  int error = 0;
  ssize_t size;
  while ((size = ::read(report[0], &error, sizeof error)) < 0 && errno == EINTR) {
  }
  close(report[0]);
  if (size == sizeof error) {
    waitpid(pid, nullptr, 0);
    return error;
  }
  pid_ = pid;
  return 0;
}

void Foreground::signal(int number) const noexcept {
  if (running()) ::kill(pid_, number);
}

Foreground::Change Foreground::look() noexcept {
  Change change = Change::kNone;
  while (running()) {
    int status;
    const pid_t pid = waitpid(pid_, &status, WNOHANG | WUNTRACED);
    if (pid != pid_) break;
    if (WIFSTOPPED(status)) {
      change = Change::kStopped;
      continue;
    }
    pid_ = -1;
    status_ = status;
    return Change::kEnded;
  }
  return change;
}

int Foreground::exit_code() const noexcept {
  return WIFSIGNALED(status_) ? 128 + WTERMSIG(status_) : WEXITSTATUS(status_);
}

}  // namespace weft::process
