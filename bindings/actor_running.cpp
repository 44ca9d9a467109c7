// What Python's actors run on.
#include <nanobind/stl/string.h>

#include <cerrno>
#include <cstring>
#include <unordered_map>
#include <vector>

#include "actor_value.hpp"
#include "weft/detail/task.hpp"

namespace weft::python {

namespace {

// Guarded by the GIL: the actors by the threads of control that they have.
std::unordered_map<PyThreadState*, PyActor*> g_running;

// Actors that keep the program from ending, but for those on threads of threading.
std::atomic<uint32_t> g_foreground{0};

// Threads that are in come_in(), and whether there are to be no more.
std::atomic<uint32_t> g_guests{0};
std::atomic<bool> g_retired{false};

void leave_foreground() noexcept {
  uint32_t seen = g_foreground.load(std::memory_order_relaxed);
  do {
    if (seen == 0) return;  // it was counted in this process's parent
  } while (!g_foreground.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel));
  if (seen == 1) detail::wake(&g_foreground);
}

}  // namespace

bool come_in() noexcept {
  g_guests.fetch_add(1, std::memory_order_seq_cst);
  if (!g_retired.load(std::memory_order_seq_cst)) return true;
  go_out();
  return false;
}

void go_out() noexcept {
  if (g_guests.fetch_sub(1, std::memory_order_seq_cst) == 1) detail::wake(&g_guests);
}

PyActor* PyActor::running_here() noexcept {
  const auto found = g_running.find(PyThreadState_Get());
  return found == g_running.end() ? nullptr : found->second;
}

nb::dict PyActor::running() {
  nb::dict names;
  for (const auto& [state, actor] : g_running) names[nb::int_(state->thread_id)] = actor->text();
  return names;
}

class PyActor::Task final : public detail::Task {
 public:
  Task(PyActor& actor, bool daemon) noexcept
      : detail::Task(&run,
                     [](Completion& self) noexcept {
                       auto* task = static_cast<Task*>(&self);
                       task->dispose();
                       delete task;
                     }),
        actor_(detail::Ref<PyActor>::share(actor)),
        daemon_(daemon) {}

 private:
  static void run(detail::Task& task) {
    auto& self = static_cast<Task&>(task);
    PyThreadState* state = PyThreadState_New(PyInterpreterState_Main());
    if (!state) Py_FatalError("weft: no memory for an actor's thread state");
    take_gil(state);
    follow_tracers();
    self.actor_->run_here();
    self.complete();
    leave_interpreter();
    if (!self.daemon_) leave_foreground();
  }

  detail::Ref<PyActor> actor_;
  const bool daemon_;
};

void PyActor::enter(void* worker) noexcept {
  shares_ = worker != nullptr;
  if (shares_) state_ = static_cast<PyThreadState*>(worker);
  take_gil(state_);
  if (shares_) g_running[state_] = this;
}

void PyActor::leave() noexcept {
  if (shares_) g_running.erase(state_);
  PyEval_SaveThread();
}

void PyActor::run_here() {
  const detail::Ref<PyActor> kept = detail::Ref<PyActor>::share(*this);
  state_ = PyThreadState_Get();
  g_running[state_] = this;
  PyEval_SaveThread();
  run();
  take_gil(state_);
  g_running.erase(state_);
}

const detail::WorkerType kPythonWorker{[]() noexcept -> void* {
                                         PyThreadState* state = PyThreadState_New(PyInterpreterState_Main());
                                         if (!state) Py_FatalError("weft: no memory for a thread state");
                                         take_gil(state);
                                         follow_tracers();
                                         return PyEval_SaveThread();
                                       },
                                       [](void* worker) noexcept {
                                         if (!come_in()) return;
                                         sheltered([&] {
                                           take_gil(static_cast<PyThreadState*>(worker));
                                           leave_interpreter();
                                         });
                                         go_out();
                                       }};

void PyActor::start_on(detail::Dispatcher& dispatcher, bool daemon) {
  introduce_to_threading();
  if (!daemon) {
    g_foreground.fetch_add(1, std::memory_order_relaxed);
    call_when_done(*this, [] { leave_foreground(); });
  }
  if (const int error = dispatcher.start(*this)) {
    // Its end, by give_up(), counts it out again.
    if (error != ENOMEM && error != EAGAIN) raise_errno(error);
    raise_text(PyExc_MemoryError,
               std::string("no memory for another thread (") + strerror(error) + "); see 'weft doctor'");
  }
}

namespace {

void wait_for_none(std::atomic<uint32_t>& count, const char* what) {
  raise_outcome(blocking([&] {
    return detail::await(&count, detail::kNever, detail::kCancellable, what,
                         [&]() noexcept { return count.load(std::memory_order_seq_cst) == 0; });
  }));
}

}  // namespace

void PyActor::wait_for_all() {
  wait_for_none(g_foreground, "the end of all actors");
}

void PyActor::retire() {
  g_retired.store(true, std::memory_order_seq_cst);
  wait_for_none(g_guests, "threads that end with their actors");
}

nb::list PyActor::forget_parents() {
  PyThreadState* here = PyThreadState_Get();
  std::vector<detail::Ref<PyActor>> all;
  const auto add = [&](PyActor& actor) { all.push_back(detail::Ref<PyActor>::share(actor)); };
  for (const auto& [state, actor] : g_running)
    if (state != here) add(*actor);
  for_each(
      [](void* argument, ActorCore& core) {
        PyActor* actor = of(core);
        if (actor && !actor->remote()) (*static_cast<decltype(add)*>(argument))(*actor);
        return true;
      },
      const_cast<void*>(static_cast<const void*>(&add)));
  std::erase_if(g_running, [&](const auto& each) { return each.first != here; });
  g_foreground.store(0);
  g_guests.store(0);
  nb::list lost;
  for (const auto& actor : all) {
    if (actor->runs_here()) continue;
    actor->lose();
    if (actor->answering_) actor->answering_->lose();
    lost.append(ActorRefObject::make(*actor));
  }
  lose_foreign_answers();
  return lost;
}

void PyActor::start_fiber(const std::string& name, bool daemon) {
  ensure_runtime();
  const auto task = detail::Ref<Task>::adopt(new Task(*this, daemon));
  detail::TaskOptions options;
  options.name = name.c_str();
  options.name_length = name.size();
  if (!daemon) g_foreground.fetch_add(1, std::memory_order_relaxed);
  if (const int error = task->start(options)) {
    if (!daemon) g_foreground.fetch_sub(1, std::memory_order_relaxed);
    if (error != ENOMEM && error != EAGAIN) raise_errno(error);
    raise_text(PyExc_MemoryError, std::string("no memory for another actor's fiber (") + strerror(error) +
                                      "); see 'weft doctor'");
  }
}

}  // namespace weft::python
