// Pattern: what is looked for in the output of a command.
#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "weft/detail/process.hpp"

namespace weft::detail {

/// A compiled expression. Any thread.
class Pattern {
 public:
  explicit Pattern(pcre2_code* code) noexcept : code_(code) {}
  ~Pattern() { pcre2_code_free(code_); }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  enum class Found : uint8_t { kNo, kYes, kNoMemory };
  /// The first match in the `size` bytes at `text`; tells where it begins and ends.
  /// `mid_line`: the text begins within a line, so `^` does not match there.
  Found search(const char* text, size_t size, size_t& begin, size_t& end,
               bool mid_line = false) const noexcept;

 private:
  pcre2_code* code_;
};

}  // namespace weft::detail
