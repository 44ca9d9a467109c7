// LineStream: a FILE whose lines are taken as they are written, so that reading them needs no memory of the
// heap.
#pragma once

#include <cstdio>

namespace weft::heap {

/// What is written to file() is handed on line by line, without the line's end. A line beyond 255 bytes is
/// cut off.
class LineStream {
 public:
  using Take = void (*)(void* who, const char* line) noexcept;

  LineStream(void* who, Take take) noexcept;
  ~LineStream();
  LineStream(const LineStream&) = delete;
  LineStream& operator=(const LineStream&) = delete;

  /// Null: no memory for it.
  FILE* file() const noexcept { return file_; }

 private:
  void take_text(const char* text, size_t size) noexcept;

  void* const who_;
  const Take take_;
  FILE* file_;
  char buffer_[1024];
  char line_[256];
  size_t used_ = 0;
};

}  // namespace weft::heap
