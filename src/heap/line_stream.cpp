#include "heap/line_stream.hpp"

namespace weft::heap {

LineStream::LineStream(void* who, Take take) noexcept : who_(who), take_(take) {
  const auto write = [](void* stream, const char* text, size_t size) {
    static_cast<LineStream*>(stream)->take_text(text, size);
    return static_cast<ssize_t>(size);
  };
  file_ = fopencookie(this, "w", {nullptr, write, nullptr, nullptr});
  if (file_) setvbuf(file_, buffer_, _IOFBF, sizeof buffer_);
}

LineStream::~LineStream() {
  if (file_) fclose(file_);
}

void LineStream::take_text(const char* text, size_t size) noexcept {
  for (size_t i = 0; i < size; ++i) {
    if (text[i] != '\n') {
      if (used_ + 1 < sizeof line_) line_[used_++] = text[i];
      continue;
    }
    line_[used_] = 0;
    used_ = 0;
    take_(who_, line_);
  }
}

}  // namespace weft::heap
