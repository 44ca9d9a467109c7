// Stacks too deep to be printed as they are.
#pragma once

#include <cstddef>

#include "runtime/dump_stack.hpp"

namespace weft::engine::dump {

/// Goes through a stack as one would tell of it: a recursion once, with the number of its repetitions, and of
/// what is still too long the first and the last frames. Allocates nothing; async-signal-safe.
class BriefStack {
 public:
  static constexpr size_t kFirst = 24, kLast = 12;  ///< of frames and repetitions
  /// Longer recursions are not seen as such.
  static constexpr size_t kLongestRound = 16;

  struct Item {
    enum class Kind {
      kFrame,    ///< frames[index]
      kRepeats,  ///< the `frames` frames before this come `times` more times
      kSkipped,  ///< `frames` frames are left out
    };
    Kind kind = Kind::kFrame;
    size_t index = 0;
    size_t frames = 1;
    size_t times = 1;
  };

  /// The frames must outlive it.
  BriefStack(const Frame* frames, size_t count) noexcept;

  /// False at the end.
  bool next(Item& item) noexcept;

 private:
  bool next_of_all(Item& item) noexcept;
  Item round_at(size_t index) const noexcept;

  const Frame* frames_;
  size_t count_;
  size_t items_ = 0;  // in all
  size_t item_ = 0;   // the next one
  size_t at_ = 0;     // the next frame
  size_t round_end_ = 0;
  Item round_;  // that begins before at_; without frames: none
};

}  // namespace weft::engine::dump
