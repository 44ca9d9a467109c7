#include "process/voice.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <mutex>

#include "weft/timeout.hpp"

namespace weft::process {

namespace {

// Standard error is shared with others, who would not expect it to be non-blocking: of a pipe that is
// writable PIPE_BUF bytes are taken without a wait. Returns 0, or an errno and gives the rest up.
int write_all(int fd, std::string_view text) noexcept {
  try {
    Shield shield;
    while (!text.empty()) {
      wait_writable(fd);
      const ssize_t written = ::write(fd, text.data(), std::min<size_t>(text.size(), PIPE_BUF));
      if (written > 0)
        text.remove_prefix(static_cast<size_t>(written));
      else if (errno != EAGAIN && errno != EINTR)
        return errno;
    }
    return 0;
  } catch (...) {
    return EIO;
  }
}

size_t terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

// As much of it as a line has room for. A terminal would take control characters of a service for its own.
std::string fitted(const std::string& text, size_t width) {
  std::string line;
  size_t shown = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte & 0xC0) != 0x80 && ++shown >= width) break;  // what follows a UTF-8 head takes no room
    line += byte < ' ' || byte == 127 ? ' ' : c;
  }
  return line;
}

}  // namespace

Voice::Voice(const Settings& settings)
    : name_(settings.name),
      log_file_(settings.log_file),
      quiet_(settings.quiet),
      show_output_(settings.show_output),
      shows_progress_(!settings.quiet && isatty(STDERR_FILENO)) {
  if (settings.log_file.empty()) return;
  log_ = OwnedDescriptor(::open(settings.log_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!log_) throw std::system_error(errno, std::system_category(), "the log file " + settings.log_file);
}

void Voice::clear() {
  if (line_shown_) write_all(STDERR_FILENO, "\r\033[K");
  line_shown_ = false;
}

void Voice::say(const std::string& text) {
  const Shield shield;
  const std::lock_guard lock(mutex_);
  clear();
  write_all(STDERR_FILENO, name_ + ": " + text + "\n");
}

void Voice::note(const std::string& text) {
  if (!quiet_) say(text);
}

void Voice::progress(const std::string& text) {
  if (!shows_progress_) return;
  const Shield shield;
  const std::lock_guard lock(mutex_);
  write_all(STDERR_FILENO, "\r" + fitted(name_ + ": " + text, terminal_width()) + "\033[K");
  line_shown_ = true;
}

void Voice::end_progress() {
  const Shield shield;
  const std::lock_guard lock(mutex_);
  clear();
}

void Voice::output(std::string_view lines) {
  const Shield shield;
  const std::lock_guard lock(mutex_);
  if (log_)
    if (const int error = write_all(log_.get(), lines)) {
      clear();
      write_all(STDERR_FILENO, "weft exec: the log is given up: " + log_file_ + ": " +
                                   std::system_category().message(error) + "\n");
      log_ = {};
    }
  if (!show_output_) return;
  clear();
  write_all(STDERR_FILENO, lines);
}

}  // namespace weft::process
