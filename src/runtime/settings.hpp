// What the user chose for a run, and its form in the environment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "poll/poller.hpp"

namespace weft {

/// Whose threads become fibers.
enum class Threads : uint8_t {
  kPython,  ///< those an interpreter creates; a process without one is left alone
  kAll,     ///< every thread the program or a library creates
  kNone,    ///< none: calls are routed, threads stay OS threads
};

struct Settings {
  Backend backend = Backend::kAuto;
  size_t stack_size = 1024 * 1024;  ///< bytes, for fibers whose creator does not say
  Threads threads = Threads::kPython;
  bool verbose = false;
  bool stats = false;             ///< a summary on standard error at exit
  std::string stats_file;         ///< and as JSON into this file; "%p" stands for the process id
  bool children = false;          ///< the processes that the first interpreter starts are patched, too
  int dump_signal = 0;            ///< a signal that makes the process dump its fibers; 0: none
  bool routing = true;            ///< false: all is loaded, nothing routed (to see what the routing does)
};

}  // namespace weft
