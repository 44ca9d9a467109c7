// Where reports are written to, piece by piece.
#pragma once

#include <cerrno>
#include <cstring>
#include <string_view>

#include "fiber/sys.hpp"

namespace weft::engine::host {

/// Takes text. Implementations meant for crash handlers must be async-signal-safe; those who write never
/// allocate.
class TextSink {
 public:
  virtual void write(std::string_view text) noexcept = 0;

 protected:
  ~TextSink() = default;
};

/// Writes to a descriptor by raw system calls, in pieces of up to 512 bytes; the last one on destruction.
/// Async-signal-safe. What the descriptor refuses is lost.
class FdSink final : public TextSink {
 public:
  explicit FdSink(int descriptor) noexcept : descriptor_(descriptor) {}
  ~FdSink() { flush(); }
  FdSink(const FdSink&) = delete;
  FdSink& operator=(const FdSink&) = delete;

  void write(std::string_view text) noexcept override {
    while (!text.empty()) {
      if (used_ == sizeof buffer_) flush();
      const size_t piece = text.size() < sizeof buffer_ - used_ ? text.size() : sizeof buffer_ - used_;
      memcpy(buffer_ + used_, text.data(), piece);
      used_ += piece;
      text.remove_prefix(piece);
    }
  }

  void flush() noexcept {
    for (size_t done = 0; done < used_;) {
      const long written = sys::call(SYS_write, descriptor_, buffer_ + done, used_ - done);
      if (written == -EINTR) continue;
      if (written <= 0) break;
      done += static_cast<size_t>(written);
    }
    used_ = 0;
  }

 private:
  int descriptor_;
  size_t used_ = 0;
  char buffer_[512];
};

/// Keeps what fits into a caller's buffer, always terminated.
class BufferSink final : public TextSink {
 public:
  /// REQUIRES: size > 0.
  BufferSink(char* buffer, size_t size) noexcept : buffer_(buffer), room_(size - 1) { buffer_[0] = '\0'; }

  void write(std::string_view text) noexcept override {
    const size_t piece = text.size() < room_ - used_ ? text.size() : room_ - used_;
    memcpy(buffer_ + used_, text.data(), piece);
    used_ += piece;
    buffer_[used_] = '\0';
  }

  size_t size() const noexcept { return used_; }

 private:
  char* buffer_;
  size_t room_;
  size_t used_ = 0;
};

}  // namespace weft::engine::host
