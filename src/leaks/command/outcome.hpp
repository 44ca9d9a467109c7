// What `weft leaks` found, and how it is told.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "leaks/command/request.hpp"

namespace weft::leaks {

struct Outcome {
  enum class Verdict {
    kClean,
    kLeaks,
    kFailed,  ///< nothing can be said: it raised, crashed, or did not return
  };
  Target target;
  Verdict verdict = Verdict::kFailed;
  std::string what;        ///< what leaks, as an error's name or kind: "memory", "UnclosedFdError"
  std::string text;        ///< for people
  std::string svg;         ///< the growth over the calls; empty where memory was not looked at
  uint64_t calls = 0;      ///< in which memory was looked at; of a command: runs
  double seconds = 0;      ///< that it took
  bool uncertain = false;  ///< time or memory were used up before it was certain
  bool exact = true;       ///< allocations were counted as they were made
};

/// "clean", "leaks" or "failed".
const char* name_of(Outcome::Verdict verdict) noexcept;

/// One outcome for people, with its end of line.
std::string to_text(const Outcome& outcome);
/// All of them as one JSON document.
std::string to_json(const std::vector<Outcome>& outcomes);
/// All of them as JUnit's XML: a leak is a failure, what could not be checked an error.
std::string to_junit(const std::vector<Outcome>& outcomes);

}  // namespace weft::leaks
