// What was counted during a run, as `--stats` and `--stats-file` report it.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "fiber/carrier.hpp"
#include "runtime/settings.hpp"

namespace weft::engine::stats {

struct Pin {
  std::string call, library;
  uint64_t count = 0, total_ns = 0, longest_ns = 0;
};

/// All zero, and `backend` unset, while the runtime has not started: it does so with the first thread.
struct Summary {
  pid_t pid = 0;
  std::optional<std::string> python;  ///< the version of the interpreter in the process, if there is one
  std::optional<Backend> backend;
  bool routing = false;
  std::string no_fibers;  ///< why threads become no fibers here; empty where they do. Not in the JSON
  int carriers = 0;
  int pool_threads_peak = 0;
  uint64_t native_threads = 0;
  Fiber::Counts fibers{};
  Carrier::Stats carrier{};
  std::vector<Pin> pins;
  uint64_t preemptions = 0, stalls = 0;
  uint64_t peak_rss_kib = 0;

  bool started() const noexcept { return backend.has_value(); }
};

/// Of this process, now. Any thread.
Summary collect();

/// For people: aligned, one thing a line.
std::string to_text(const Summary& summary);

/// One JSON object. Its keys are the names above (except `no_fibers`) but that the counts of fibers stand in
/// "fibers", those of parks by kind in "parks", and the carrier's switches in "switches"; "python" and
/// "backend" may be null; a pin's longest time is "max_ns".
std::string to_json(const Summary& summary);

/// Has the summary written when the process ends by exit() or by returning from main(), as `settings` ask
/// for. A process that ends by a signal, by _exit() or by exec runs no exit handlers and writes none. A
/// forked child writes nothing, except into a stats file of its own where the path has "%p". To be called
/// once, before other exit handlers are registered: the summary then comes after them.
void report_at_exit(const Settings& settings) noexcept;

}  // namespace weft::engine::stats
