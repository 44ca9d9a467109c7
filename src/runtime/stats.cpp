#include "runtime/stats.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "fiber/sys.hpp"
#include "host/python.hpp"
#include "host/text_sink.hpp"
#include "interpose/interpose.hpp"
#include "runtime/runtime.hpp"

namespace weft::engine::stats {

namespace {

// What exit handlers need; written once, before there are threads.
struct AtExit {
  pid_t pid;
  bool text;
  std::string file;
};
constinit AtExit* g_at_exit = nullptr;

// VmHWM, unlike getrusage's maximum, does not count what the process was before its last exec.
uint64_t peak_rss_kib() {
  uint64_t peak = 0;
  if (FILE* file = fopen("/proc/self/status", "re")) {
    char line[256];
    while (fgets(line, sizeof line, file))
      if (sscanf(line, "VmHWM: %lu kB", &peak) == 1) break;
    fclose(file);
  }
  rusage usage;
  if (peak == 0 && getrusage(RUSAGE_SELF, &usage) == 0) peak = static_cast<uint64_t>(usage.ru_maxrss);
  return peak;
}

bool write_all(int fd, std::string_view text) noexcept {
  while (!text.empty()) {
    const long written = sys::call(SYS_write, fd, text.data(), text.size());
    if (written == -EINTR) continue;
    if (written <= 0) {
      errno = static_cast<int>(-written);
      return false;
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

void write_file(std::string path, const Summary& summary) {
  const std::string pid = std::to_string(summary.pid);
  for (size_t at = 0; (at = path.find("%p", at)) != path.npos; at += pid.size()) path.replace(at, 2, pid);
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  const bool written = fd >= 0 && write_all(fd, to_json(summary) + "\n");
  const int error = errno;
  if (fd >= 0) close(fd);
  if (!written)
    write_all(STDERR_FILENO, "weft: cannot write the stats file " + path + ": " + strerror(error) + "\n");
}

void report() noexcept {
  // Fibers may still be parked; whatever is called from here must not let them run.
  NoSwitchScope blocking;
  const AtExit& wanted = *g_at_exit;
  const bool forked = getpid() != wanted.pid;
  const bool file = !wanted.file.empty() && (!forked || wanted.file.find("%p") != std::string::npos);
  const bool text = wanted.text && !forked;
  if (!file && !text) return;
  const Summary summary = collect();
  if (text) write_all(STDERR_FILENO, to_text(summary));
  if (file) write_file(wanted.file, summary);
}

}  // namespace

Summary collect() {
  Summary summary;
  summary.pid = getpid();
  summary.routing = interpose::installed();
  summary.peak_rss_kib = peak_rss_kib();
  if (const host::Python* python = host::Python::find()) {
    const std::string_view text = python->version_text();
    summary.python = text.substr(0, text.find(' '));
  }
  char reason[160];
  host::BufferSink sink(reason, sizeof reason);
  interpose::describe_no_fibers(sink);
  summary.no_fibers = reason;
  interpose::Report routed = interpose::report();
  summary.native_threads = routed.native_threads;
  for (interpose::Pin& pin : routed.pins)
    summary.pins.push_back(
        {std::move(pin.call), std::move(pin.library), pin.count, pin.total_ns, pin.longest_ns});
  std::sort(summary.pins.begin(), summary.pins.end(),
            [](const Pin& a, const Pin& b) { return a.total_ns > b.total_ns; });
  Runtime* runtime = Runtime::get();
  if (!runtime) return summary;
  summary.backend = runtime->poller().backend();
  summary.carriers = 1;
  summary.pool_threads_peak = OffloadPool::instance().peak_threads();
  summary.fibers = Fiber::counts();
  summary.carrier = runtime->carrier().stats();
  summary.preemptions = runtime->monitor().preemptions();
  summary.stalls = runtime->monitor().stalls();
  return summary;
}

void report_at_exit(const Settings& settings) noexcept {
  if (!settings.stats && settings.stats_file.empty()) return;
  g_at_exit = new AtExit{getpid(), settings.stats, settings.stats_file};
  atexit(&report);
}

}  // namespace weft::engine::stats
