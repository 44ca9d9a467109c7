#include "weft/runtime.hpp"

#include <cerrno>

#include "poll/offload_pool.hpp"
#include "runtime/runtime.hpp"
#include "weft/offload.hpp"

namespace weft {

namespace {

constinit std::atomic<bool> g_has_owner{false};

engine::Backend backend_of(RuntimeOptions::Backend backend) noexcept {
  switch (backend) {
    case RuntimeOptions::Backend::kIoUring:
      return engine::Backend::kIoUring;
    case RuntimeOptions::Backend::kEpoll:
      return engine::Backend::kEpoll;
    case RuntimeOptions::Backend::kAuto:
      break;
  }
  return engine::Backend::kAuto;
}

}  // namespace

int Runtime::start(const RuntimeOptions& options) noexcept {
  if (g_has_owner.exchange(true)) return EBUSY;
  engine::Settings settings;
  settings.backend = backend_of(options.backend);
  settings.stack_size = options.stack_size;
  int error = 0;
  engine::Runtime* runtime = engine::Runtime::get();
  if (runtime) {
    const bool fits =
        runtime->settings().stack_size == settings.stack_size &&
        (settings.backend == engine::Backend::kAuto || settings.backend == runtime->poller().backend());
    if (!fits) error = EALREADY;
  } else if (!(runtime = engine::Runtime::start(settings))) {
    error = errno;
  }
  if (!error && !runtime->set_carriers(options.carriers)) {
    error = errno;
    runtime->set_carriers(1);
  }
  if (error) g_has_owner.store(false);
  return error;
}

void Runtime::stop() noexcept {
  // None: in a child that a native thread forked.
  if (engine::Runtime* runtime = engine::Runtime::get()) runtime->set_carriers(1);
  g_has_owner.store(false);
}

bool Runtime::running() noexcept {
  return engine::Runtime::get() != nullptr;
}

RuntimeReport Runtime::report() noexcept {
  RuntimeReport report{};
  engine::Runtime* runtime = engine::Runtime::get();
  if (!runtime) return report;
  const engine::Fiber::Counts counts = engine::Fiber::counts();
  report.carriers = runtime->carriers();
  report.backend = to_string(runtime->poller().backend());
  report.fibers_spawned = counts.created;
  report.fibers_alive = counts.alive;
  report.fibers_peak = counts.peak;
  for (int i = 0; i < report.carriers; ++i) report.switches += runtime->carrier(i).stats().switches;
  report.stolen = runtime->crew().stolen();
  report.stalls = runtime->monitor().stalls();
  report.offload_threads = engine::OffloadPool::instance().threads();
  return report;
}

namespace detail {

void offload(void (*work)(void*) noexcept, void* argument) noexcept {
  engine::OffloadPool::instance().run("offload", [&]() noexcept { work(argument); });
}

}  // namespace detail

}  // namespace weft
