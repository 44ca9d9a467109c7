// Supervision, dispatchers, pools and dead letters of Python's actors.
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "actor_object.hpp"

namespace weft::python {

namespace {

class DispatcherObject {
 public:
  DispatcherObject(uint32_t workers, bool on_fibers, const std::string& name)
      : core_(make(workers, on_fibers, name)) {}
  detail::Dispatcher& core() const { return *core_; }
  static detail::Ref<detail::Dispatcher> make(uint32_t workers, bool on_fibers, const std::string& name) {
    detail::Dispatcher* made = detail::Dispatcher::create({&kPythonWorker, name.c_str(), workers, on_fibers});
    if (!made) throw std::bad_alloc();
    return detail::Ref<detail::Dispatcher>::adopt(made);
  }

 private:
  detail::Ref<detail::Dispatcher> core_;
};

std::chrono::nanoseconds span_of(Seconds seconds) {
  return std::chrono::nanoseconds(
      seconds.value < 9e9 ? static_cast<int64_t>(std::max(seconds.value, 0.0) * 1e9) : INT64_MAX);
}

void raise_supervision_error(int error) {
  if (error == ESRCH) raise_text(actor_names.dead, "the actor that is to supervise it has stopped");
  if (error == EPERM)
    raise_error(PyExc_RuntimeError,
                "start_child() is for the actor itself: call it in one of its methods, not from outside");
  if (error) throw std::bad_alloc();
}

Routing routing_of(const char* name) {
  for (auto [each, value] : {std::pair("round_robin", Routing::kRoundRobin),
                             {"random", Routing::kRandom},
                             {"least_waiting", Routing::kLeastWaiting}})
    if (strcmp(name, each) == 0) return value;
  raise_error(PyExc_ValueError, "routing must be 'round_robin', 'random' or 'least_waiting'");
}

nb::object worker_of(nb::handle reference, nb::handle key) {
  PyActor& core = core_of(reference);
  const Py_hash_t hash = PyObject_Hash(key.ptr());
  if (hash == -1 && PyErr_Occurred()) throw nb::python_error();
  if (!core.pool()) return nb::borrow(reference);
  const auto chosen = detail::Ref<detail::ActorCore>::adopt(core.route(static_cast<uint64_t>(hash)));
  if (!chosen) raise_text(actor_names.dead, core.text() + " has no actors");
  return ActorRefObject::make(static_cast<PyActor&>(*chosen));
}

nb::list workers_of(nb::handle reference) {
  PyActor& core = core_of(reference);
  nb::list references;
  if (!core.pool()) {
    references.append(reference);
    return references;
  }
  std::vector<detail::Ref<PyActor>> found;
  core.for_each_child(
      [](void* list, detail::ActorCore& child) {
        static_cast<decltype(found)*>(list)->push_back(
            detail::Ref<PyActor>::share(static_cast<PyActor&>(child)));
      },
      &found);
  for (const auto& each : found) references.append(ActorRefObject::make(*each));
  return references;
}

}  // namespace

void add_actor_supervision(nb::module_& m) {
  nb::class_<DispatcherObject>(
      m, "Dispatcher", nb::is_final(),
      "Workers that run many actors by turns. For `actor_dispatcher`.\n\n"
      "At most `workers` of them, OS threads or fibers, each started when there is work for it. They end "
      "when "
      "the\n"
      "dispatcher is garbage and no actor runs on it. An actor that waits keeps its worker.")
      .def(
          "__init__",
          [](DispatcherObject* self, int64_t workers, const std::string& on, const std::string& name) {
            if (workers < 1 || workers > 100'000)
              raise_error(PyExc_ValueError, "a dispatcher needs from 1 to 100000 workers");
            if (on != "threads" && on != "fibers")
              raise_error(PyExc_ValueError, "a dispatcher's workers are on 'threads' or on 'fibers'");
            if (on == "fibers") ensure_runtime();
            new (self) DispatcherObject(static_cast<uint32_t>(workers), on == "fibers", name);
          },
          nb::arg("workers"), nb::kw_only(), nb::arg("on") = "threads", nb::arg("name") = "weft-actors",
          nb::sig("def __init__(self, workers: int, *, on: Literal['threads', 'fibers'] = 'threads', name: "
                  "str = 'weft-actors') -> None"));

  m.def(
      "_start_actor",
      [](nb::handle reference, const std::string& name, bool daemon, nb::handle dispatcher) {
        PyActor& core = core_of(reference);
        if (nb::isinstance<DispatcherObject>(dispatcher))
          return core.start_on(nb::inst_ptr<DispatcherObject>(dispatcher)->core(), daemon);
        if (nb::isinstance<nb::str>(dispatcher)) {
          if (nb::cast<std::string>(dispatcher) == "fiber") return core.start_fiber(name, daemon);
          if (nb::cast<std::string>(dispatcher) == "thread")
            return core.start_on(*DispatcherObject::make(1, false, name), daemon);
        }
        raise_error(PyExc_TypeError, "actor_dispatcher must be 'fiber', 'thread' or a weft.actor.Dispatcher");
      },
      nb::arg(), nb::arg(), nb::arg(), nb::arg().none());

  m.def("_set_actor_restart",
        [](nb::handle reference, int64_t limit, Seconds quiet, Seconds delay, Seconds longest) {
          Restart restart;
          restart.limit = static_cast<uint32_t>(std::min<int64_t>(limit, UINT32_MAX));
          restart.quiet = span_of(quiet);
          restart.delay = span_of(delay);
          restart.longest = span_of(longest);
          if (!core_of(reference).set_restart(restart)) throw std::bad_alloc();
        });
  m.def("_set_actor_parent", [](nb::handle reference, nb::handle parent) {
    raise_supervision_error(core_of(reference).set_parent(core_of(parent)));
  });
  m.def("_make_actor_pool", [](nb::handle reference, const std::string& routing, nb::handle actor_class) {
    PyActor& core = core_of(reference);
    const Routing how = routing_of(routing.c_str());
    if (!core.make_pool(how)) throw std::bad_alloc();
    core.set_actor_class(actor_class);
  });
  m.def("_pool_workers", &workers_of);
  m.def("_pool_worker", &worker_of, nb::arg(), nb::arg().none());
  m.def(
      "_set_dead_letter_handler",
      [](nb::handle handler) {
        if (!handler.is_none() && !PyCallable_Check(handler.ptr()))
          raise_error(PyExc_TypeError, "set_dead_letter_handler(): a function is needed, or None");
        PyObject* former = actor_names.dead_letter_handler;
        actor_names.dead_letter_handler = handler.is_none() ? nullptr : handler.inc_ref().ptr();
        return former ? nb::steal(former) : nb::none();
      },
      nb::arg().none());
}

}  // namespace weft::python
