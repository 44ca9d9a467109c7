// Voice: what `weft exec` says on standard error, and what its services write.
#pragma once

#include <string>
#include <string_view>

#include "weft/io.hpp"
#include "weft/mutex.hpp"

namespace weft::process {

/// Writes whole lines, so that those of several fibers do not mix. A standard error that nobody reads holds
/// up the calling fiber, not the others. Not cancellable. Whatever cannot be written is lost. REQUIRES:
/// SIGPIPE is blocked or ignored.
class Voice {
 public:
  struct Settings {
    std::string name = "weft exec";  ///< whose voice it is
    bool quiet = false;              ///< note() and progress() say nothing
    bool show_output = false;        ///< output() goes to standard error
    std::string log_file;            ///< output() goes there; empty: there is none
  };

  /// std::system_error: the log file cannot be written.
  explicit Voice(const Settings& settings);
  Voice(const Voice&) = delete;
  Voice& operator=(const Voice&) = delete;

  /// "NAME: TEXT", and an end of line.
  void say(const std::string& text);
  /// The same, of what a user may do without.
  void note(const std::string& text);
  /// Replaces the terminal's last line by this one, until something else is said. Nothing where standard
  /// error is no terminal.
  void progress(const std::string& text);
  /// Takes that line away.
  void end_progress();
  bool shows_progress() const noexcept { return shows_progress_; }

  /// Whole lines of a service.
  void output(std::string_view lines);
  bool takes_output() const noexcept { return show_output_ || log_; }

 private:
  void clear();

  const std::string name_, log_file_;
  const bool quiet_, show_output_, shows_progress_;
  OwnedDescriptor log_;
  Mutex mutex_;  // guards what follows, and the writing
  bool line_shown_ = false;
};

}  // namespace weft::process
