#include "process/pattern.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

namespace weft::detail {

Pattern::Found Pattern::search(const char* text, size_t size, size_t& begin, size_t& end,
                               bool mid_line) const noexcept {
  pcre2_match_data* const match = pcre2_match_data_create_from_pattern(code_, nullptr);
  if (!match) return Found::kNoMemory;
  const int result = pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text), size, 0,
                                 mid_line ? PCRE2_NOTBOL : 0, match, nullptr);
  if (result >= 0) {
    const PCRE2_SIZE* const bounds = pcre2_get_ovector_pointer(match);
    begin = bounds[0];
    end = std::max(bounds[0], bounds[1]);  // \K may put the beginning behind the end
  }
  pcre2_match_data_free(match);
  return result >= 0 ? Found::kYes : result == PCRE2_ERROR_NOMEMORY ? Found::kNoMemory : Found::kNo;
}

Pattern* compile_pattern(const char* text, size_t size, uint32_t flags, char* what, size_t what_size,
                         size_t& where) noexcept {
  // Output need not be UTF-8 throughout: what is not matches nothing.
  uint32_t options = flags & kBytes ? 0 : PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF;
  if (flags & kIgnoreCase) options |= PCRE2_CASELESS;
  if (flags & kMultiline) options |= PCRE2_MULTILINE;
  if (flags & kDotAll) options |= PCRE2_DOTALL;
  if (flags & kVerbose) options |= PCRE2_EXTENDED;
  int error = 0;
  pcre2_code* const code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text), size, options, &error, &where, nullptr);
  if (!code) {
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(what), what_size);
    return nullptr;
  }
  auto* const pattern = new (std::nothrow) Pattern(code);
  if (!pattern) {
    pcre2_code_free(code);
    strncpy(what, "no memory", what_size);
  }
  return pattern;
}

void free_pattern(Pattern* pattern) noexcept {
  delete pattern;
}

namespace {

constexpr size_t kOverlap = 4096;  // of what was searched before: a match may begin there
constexpr size_t kChunk = 64 * 1024;
constexpr Nanos kSettle = 50'000'000;

// Looks through one stream, a window at a time.
class Search {
 public:
  Search(const Child* child, int stream, const Pattern& pattern, uint64_t position) noexcept
      : child_(child), pattern_(pattern), stream_(stream), begin_(position), next_(position) {}

  enum class State : uint8_t { kGoing, kUnfinished, kFound, kEnded, kNoMemory };

  /// Looks through what has come. kUnfinished: there is a match, in a line that has no end yet.
  State look(std::unique_ptr<char[]>& window) noexcept {
    for (;;) {
      // Again what was seen of the line, or of the last lines, then what is new.
      uint64_t from = next_ - begin_ > kOverlap && !unfinished_ ? next_ - kOverlap : begin_;
      if (next_ - from > kChunk) from = next_ - kChunk;
      uint64_t at = from;
      bool ended = false;
      const size_t size = read_child(child_, stream_, at, window.get(), 2 * kChunk, ended);
      const uint64_t first = at - size;  // later than `from` if that is kept no more
      const bool news = at > next_;
      if (!news && !ended) return unfinished_ ? State::kUnfinished : State::kGoing;
      next_ = at;
      size_t begin = 0, end = 0;
      switch (pattern_.search(window.get(), size, begin, end, first != begin_)) {
        case Pattern::Found::kNoMemory:
          return State::kNoMemory;
        case Pattern::Found::kNo:
          if (ended) return State::kEnded;
          continue;
        case Pattern::Found::kYes:
          break;
      }
      const void* const newline = memchr(window.get() + end, '\n', size - end);
      if (newline) {
        found_ = first + static_cast<size_t>(static_cast<const char*>(newline) + 1 - window.get());
        return State::kFound;
      }
      found_ = at;
      if (ended || size == 2 * kChunk) return State::kFound;
      unfinished_ = true;
      begin_ = first + begin;
    }
  }
  uint64_t found() const noexcept { return found_; }
  uint64_t read() const noexcept { return next_; }

 private:
  const Child* child_;
  const Pattern& pattern_;
  const int stream_;
  uint64_t begin_, next_;  // what is searched begins there; is read up to there
  uint64_t found_ = 0;
  bool unfinished_ = false;
};

}  // namespace

class OutputSearch {
 public:
  OutputSearch(Child* child, const Pattern& pattern, const OutputPositions& from,
               std::unique_ptr<char[]> window) noexcept
      : child_(child),
        searches_{{child, 1, pattern, from.at[0]}, {child, 2, pattern, from.at[1]}},
        window_(std::move(window)) {}

  Sought look(OutputPositions& positions, Nanos& again) noexcept {
    int ended = 0;
    for (int i = 0; i < 2; ++i) {
      const uint64_t seen = searches_[i].read();
      switch (child_has_stream(child_, i + 1) ? searches_[i].look(window_) : Search::State::kEnded) {
        case Search::State::kFound:
          positions.at[i] = searches_[i].found();
          return Sought::kFound;
        case Search::State::kNoMemory:
          return Sought::kNoMemory;
        case Search::State::kEnded:
          ++ended;
          break;
        case Search::State::kUnfinished:
          if (searches_[i].read() != seen) settles_[i] = now() + kSettle;
          if (now() >= settles_[i]) {
            positions.at[i] = searches_[i].found();
            return Sought::kFound;
          }
          again = std::min(again, settles_[i]);
          break;
        case Search::State::kGoing:
          break;
      }
    }
    return ended == 2 ? Sought::kEnded : Sought::kElsewise;
  }

 private:
  Child* child_;
  Search searches_[2];
  Nanos settles_[2] = {0, 0};
  std::unique_ptr<char[]> window_;
};

OutputSearch* begin_search(Child* child, const Pattern* pattern, const OutputPositions& from) noexcept {
  std::unique_ptr<char[]> window(new (std::nothrow) char[2 * kChunk]);
  return window ? new (std::nothrow) OutputSearch(child, *pattern, from, std::move(window)) : nullptr;
}

Sought search_on(OutputSearch* search, OutputPositions& positions, Nanos& again) noexcept {
  return search->look(positions, again);
}

void end_search(OutputSearch* search) noexcept {
  delete search;
}

Sought await_output(Child* child, const Pattern* pattern, OutputPositions& positions, Nanos deadline,
                    uint8_t flags, Outcome& outcome) noexcept {
  outcome = Outcome::kReady;
  const std::unique_ptr<OutputSearch> search(begin_search(child, pattern, positions));
  if (!search) return Sought::kNoMemory;
  for (;;) {
    const uint32_t seen = child_changes(child);
    Nanos again = kNever;
    const Sought sought = search->look(positions, again);
    if (sought != Sought::kElsewise) return sought;
    outcome = await_child(child, seen, std::min(deadline, again), flags);
    if (outcome == Outcome::kTimeout && again <= deadline) outcome = Outcome::kReady;
    if (outcome != Outcome::kReady) return Sought::kElsewise;
  }
}

}  // namespace weft::detail
