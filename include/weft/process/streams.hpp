// What a command writes, and what it reads.
#pragma once

#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "weft/process/detail.hpp"

namespace weft::process {

/// Reads one stream of a command, from its first byte on, or the first that is still kept. It has a position
/// of its own: a copy reads on by itself. Good also after the command has ended, and its Executor. An empty
/// one, and one of a stream that is no pipe, is at its end. Waits are cancellation points; nothing is lost by
/// that. One fiber or thread at a time.
class OutputReader {
 public:
  OutputReader() noexcept = default;
  OutputReader(detail::ChildRef child, int stream) noexcept : child_(std::move(child)), stream_(stream) {}

  /// The next line, without its end; none: that was all. Waits. A last line need not have an end.
  std::optional<std::string> read_line() {
    for (size_t searched = 0;;) {
      if (const size_t end = pending_.find('\n', searched); end != std::string::npos) {
        std::string line = pending_.substr(0, end);
        pending_.erase(0, end + 1);
        return line;
      }
      searched = pending_.size();
      if (fill()) continue;
      if (pending_.empty()) return std::nullopt;
      return std::exchange(pending_, {});
    }
  }
  /// What there is; waits while that is nothing. "": that was all.
  std::string read_some() {
    if (pending_.empty()) fill();
    return std::exchange(pending_, {});
  }
  /// All that comes until the end; waits for that.
  std::string read_all() {
    while (fill()) {
    }
    return std::exchange(pending_, {});
  }
  /// The last lines of what is kept, as of now. Does not wait, nor move the position.
  std::string tail(size_t lines) const {
    std::string text;
    if (!child_ || lines == 0) return text;
    uint64_t at = 0;
    const uint64_t end = detail::child_output_end(child_.get(), stream_, at);
    text.resize(static_cast<size_t>(end - at));
    bool ended;
    text.resize(detail::read_child(child_.get(), stream_, at, text.data(), text.size(), ended));
    size_t begin = text.size();
    if (begin > 0 && text.back() == '\n') --begin;
    for (; begin > 0; --begin)
      if (text[begin - 1] == '\n' && --lines == 0) break;
    return text.substr(begin);
  }
  /// How much this reader was too late for: see Options::kept_output.
  uint64_t bytes_lost() const noexcept { return lost_; }

 private:
  // Appends to pending_ what there is, once there is any; false at the end.
  bool fill() {
    if (!child_) return false;
    for (;;) {
      const uint32_t seen = detail::child_changes(child_.get());
      char buffer[16 * 1024];
      const uint64_t before = position_;
      bool ended = false;
      const size_t size = detail::read_child(child_.get(), stream_, position_, buffer, sizeof buffer, ended);
      if (size > 0) lost_ += position_ - size - before;
      pending_.append(buffer, size);
      if (size > 0 || ended) return size > 0;
      detail::raise(detail::await_child(child_.get(), seen, detail::kNever, detail::kCancellable));
    }
  }

  detail::ChildRef child_;
  int stream_ = 1;
  uint64_t position_ = 0, lost_ = 0;
  std::string pending_;  // read, but not yet asked for
};

/// Standard input of a command. Copies are the same. One fiber or thread at a time writes.
class InputWriter {
 public:
  InputWriter() noexcept = default;
  explicit InputWriter(detail::ChildRef child) noexcept : child_(std::move(child)) {}

  /// Writes all of it; waits while the command does not read. A cancellation point: part of it may have been
  /// written then. std::system_error: EPIPE: the command reads no more, or there is no pipe, or it was
  /// closed. SIGPIPE is not raised.
  void write(std::string_view data) const {
    if (!child_) detail::throw_errno(EPIPE, "weft::process::InputWriter::write");
    detail::checked(detail::write_child(child_.get(), data.data(), data.size(), detail::kNever),
                    "weft::process::InputWriter::write");
  }
  /// The command reads to the end of what was written. Never waits; again is nothing.
  void close() const noexcept {
    if (child_) detail::close_child_input(child_.get());
  }

 private:
  detail::ChildRef child_;
};

}  // namespace weft::process
