#include "interpose/interpose.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "fiber/futex_lock.hpp"
#include "fiber/parking_lot.hpp"
#include "host/gil_preemptor.hpp"
#include "host/python.hpp"
#include "host/text_sink.hpp"
#include "interpose/calls.hpp"
#include "interpose/elf/base_name.hpp"
#include "interpose/elf/patcher.hpp"
#include "interpose/loading.hpp"
#include "interpose/mutexes.hpp"
#include "interpose/pins.hpp"
#include "interpose/scope.hpp"
#include "interpose/semaphores.hpp"
#include "interpose/signals.hpp"
#include "interpose/support.hpp"
#include "interpose/threads.hpp"
#include "runtime/crash.hpp"
#include "runtime/dump.hpp"
#include "runtime/runtime.hpp"

namespace weft::engine::interpose {

namespace {

// Made by the first install(), never destroyed: routed calls may come until the process ends.
struct Installation {
  Settings settings;
  // What is in force; read by the patcher's filter, so the former one may go once refilter() has returned.
  std::atomic<const Scope*> scope{nullptr};
  const bool interpreter_in_program = find_interpreter_in_program();
  // The library that allocates in place of libc, if there is one. It keeps caches in thread-locals, half
  // changed while it waits for its own locks: no other fiber may come in between.
  const std::string allocator = library_of("malloc");
  elf::Patcher patcher;

  explicit Installation(const Settings& chosen)
      : settings(chosen), patcher(routes(), [this](const elf::Site& site) { return wanted(site); }) {}

  static std::vector<elf::Route>& routes() {
    static std::vector<elf::Route> all = [] {
      std::vector<elf::Route> rows;
      for (const Call& call : all_calls())
        if (*call.real) rows.push_back({call.symbol, call.routed, static_cast<uint32_t>(call.family)});
      return rows;
    }();
    return all;
  }

  bool wanted(const elf::Site& site) const noexcept {
    if (site.route.family == static_cast<uint32_t>(Family::kLocks) && !site.program &&
        site.object == allocator)
      return false;
    const Scope& present = *scope.load(std::memory_order_acquire);
    if (!covers(present, static_cast<Family>(site.route.family), site.route.symbol, site.object))
      return false;
    if (!creates_thread(site.route.symbol)) return true;
    if (settings.threads == Threads::kPython) return is_interpreter(site);
    return settings.threads == Threads::kAll;
  }

  // The object that creates an interpreter's threads: the program, where the interpreter is linked into it,
  // or libpython.
  bool is_interpreter(const elf::Site& site) const noexcept {
    if (site.program) return interpreter_in_program;
    return base_name(site.object).starts_with("libpython");
  }

  static std::string library_of(const char* symbol) {
    Dl_info info{};
    void* address = dlsym(RTLD_NEXT, symbol);  // RTLD_DEFAULT may find the program's stub
    return address && dladdr(address, &info) && info.dli_fname ? info.dli_fname : "";
  }

  static bool find_interpreter_in_program() noexcept {
    void* symbol = dlsym(dlopen(nullptr, RTLD_LAZY), "PyThread_start_new_thread");
    Dl_info info{};
    return symbol && dladdr(symbol, &info) && !(info.dli_fname && strstr(info.dli_fname, "libpython"));
  }
};

constinit FutexLock g_lock;
constinit Installation* g_installation = nullptr;
constinit bool g_installed = false;
constinit bool g_permanent = false;  // by install(): for the whole process
constinit int g_holds = 0;
struct Layer {
  uint64_t id;
  Scope scope;
};
constinit std::vector<Layer>* g_layers = nullptr;  // oldest first
constinit uint64_t g_last_layer = 0;
constinit Threads g_permanent_threads = Threads::kPython;
constinit bool g_routing_refused = false;  // by the settings

constinit host::GilPreemptor g_preemptor;

// An interpreter's fibers are preempted through its lock, and may park while they hold it. The caller is the
// interpreter, which creates its first thread with its lock held: only so can be found out where it keeps the
// present thread's state.
void adopt_interpreter(Runtime& runtime) noexcept {
  host::Python* python = host::Python::find();
  if (!python || !python->usable()) return;
  runtime.monitor().set_preemptor(&g_preemptor);
  if (python->can_park_with_gil())
    runtime.carrier().set_interpreter_state(python->thread_state_slot());
  else
    set_interpreter_that_pins(python);
}

}  // namespace

constinit std::atomic<bool> g_routing_ended{false};

namespace {

// REQUIRES, as what follows: g_lock held.
void prepare(const Settings& settings) {
  if (!g_installation) {
    g_layers = new std::vector<Layer>;
    resolve_calls();
    g_installation = new Installation(settings);
    // Another thread may be patching at the moment of a fork; the child would inherit its lock.
    pthread_atfork(
        [] {
          g_preemptor.before_fork();
          g_installation->patcher.before_fork();
        },
        [] {
          g_installation->patcher.after_fork();
          g_preemptor.after_fork();
        },
        [] {
          g_installation->patcher.after_fork();
          g_preemptor.reset_after_fork();
        });
    set_loading_patcher(g_installation->patcher, g_installation->settings);
    set_thread_settings(g_installation->settings);
  }
}

// Has what the layers say, and the holds, come true. Returns the number of slots that were rewritten.
int apply() {
  Installation& installation = *g_installation;
  if (g_layers->empty() && !g_permanent && g_holds == 0) {
    if (!g_installed) return 0;
    g_installed = false;
    // Before the slots: who goes to wait from now on does so in libc. And who waits already looks again.
    g_routing_ended.store(true, std::memory_order_release);
    installation.patcher.restore();
    ParkingLot::instance().wake_threads();
    return 0;
  }
  Scope none;
  none.families = 0;
  none.threads = Threads::kNone;
  Scope all;
  all.threads = g_permanent_threads;
  auto next = std::make_unique<const Scope>(!g_layers->empty() ? g_layers->back().scope
                                            : g_permanent      ? all
                                                               : none);
  installation.settings.threads = next->families & bit(Family::kThreads) ? next->threads : Threads::kNone;
  std::unique_ptr<const Scope> former(installation.scope.exchange(next.release(), std::memory_order_acq_rel));
  g_routing_ended.store(false, std::memory_order_release);
  const bool fresh = !g_installed;
  g_installed = true;
  const elf::PatchReport report = fresh ? installation.patcher.patch() : installation.patcher.refilter();
  return static_cast<int>(report.slots);
}

}  // namespace

int install(const Settings& settings) noexcept {
  Guard guard(g_lock);
  g_routing_refused = !settings.routing;
  if (g_permanent || !settings.routing) return 0;
  prepare(settings);
  g_installation->settings = settings;
  g_permanent = true;
  g_permanent_threads = settings.threads;
  return apply();
}

int enter(Scope scope, uint64_t* id) try {
  Guard guard(g_lock);
  prepare({});
  g_layers->push_back({++g_last_layer, std::move(scope)});
  *id = g_last_layer;
  apply();
  return 0;
} catch (const std::bad_alloc&) {
  return ENOMEM;
}

int leave(uint64_t id) {
  Guard guard(g_lock);
  if (!g_layers) return EINVAL;
  const auto layer =
      std::find_if(g_layers->begin(), g_layers->end(), [&](const Layer& each) { return each.id == id; });
  if (layer == g_layers->end()) return EINVAL;
  g_layers->erase(layer);
  apply();
  return 0;
}

int scopes() noexcept {
  Guard guard(g_lock);
  return g_layers ? static_cast<int>(g_layers->size()) : 0;
}

bool permanent() noexcept {
  Guard guard(g_lock);
  return g_permanent;
}

int hold() {
  Guard guard(g_lock);
  prepare({});
  if (++g_holds == 1) apply();
  return 0;
}

void release_hold() {
  Guard guard(g_lock);
  if (--g_holds == 0) apply();
}

bool installed() noexcept {
  Guard guard(g_lock);
  return g_installed;
}

constinit bool g_interpreter_may_pin = false;

namespace {
constinit host::Python* g_pinning_interpreter = nullptr;
}

void set_interpreter_that_pins(host::Python* python) noexcept {
  g_pinning_interpreter = python;
  g_interpreter_may_pin = true;
}

namespace {

bool cannot_have_fibers(const host::Python* python) noexcept {
  return python && (!python->supported() || python->free_threaded());
}

void write_unsupported(const host::Python& python, host::TextSink& sink) noexcept {
  std::string_view version = python.version_text();
  version = version.substr(0, version.find(' '));
  if (python.free_threaded()) sink.write("free-threaded ");
  sink.write("Python ");
  sink.write(version.substr(0, version.rfind('.')));
  sink.write(python.free_threaded() ? " is not supported (3.11 to 3.13, with a GIL)"
                                    : " is not supported (3.11 to 3.13)");
  sink.write(": its threads stay OS threads");
}

}  // namespace

bool interpreter_is_unsupported() noexcept {
  const host::Python* python = host::Python::find();
  if (!cannot_have_fibers(python)) return false;
  static constinit std::atomic<bool> said{false};
  if (!said.exchange(true, std::memory_order_relaxed)) {
    host::FdSink sink(STDERR_FILENO);
    sink.write("weft: ");
    write_unsupported(*python, sink);
    sink.write("\n");
  }
  return true;
}

void describe_no_fibers(host::TextSink& sink) noexcept {
  const host::Python* python = host::Python::present();
  if (g_routing_refused)
    sink.write("routing is off (--routing=off): threads stay OS threads");
  else if (g_installation && g_installation->settings.threads == Threads::kNone)
    sink.write("--threads=none: threads stay OS threads");
  else if (g_installation && cannot_have_fibers(python))
    write_unsupported(*python, sink);
}

bool interpreter_pins() noexcept {
  return g_pinning_interpreter->running_fiber_holds_gil();
}

void runtime_started(Runtime& runtime) noexcept {
  runtime.carrier().set_attention_hook([](Carrier& carrier) noexcept {
    deliver_interrupts(carrier);
    wake_deferred_semaphores();
  });
  wrap_signal_handlers();
  crash::install();
  adopt_interpreter(runtime);
  dump::hooks.describe_holder = &describe_holder;
  dump::serve(runtime);
}

Report report() {
  return {pins(), native_threads()};
}

}  // namespace weft::engine::interpose
