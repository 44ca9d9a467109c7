// A PyActor that stands for an actor of another process, and what weft.actor's Python part needs for those.
//
// What such a one is asked to do, an object of weft.actor._remote does: pickling, and the handshake that has
// to come before anything is unpickled, are Python's.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <cstring>
#include <string>
#include <utility>

#include "actor_object.hpp"
#include "weft/detail/interpreter.hpp"

namespace weft::python {

PyActor::PyActor(nb::handle actor_class, const uint8_t (&uuid)[16], nb::object peer)
    : ActorCore(kType, &destroy, uuid),
      isolation_(Isolation::kShare),
      class_(Py_NewRef(actor_class.ptr())),
      weak_(nullptr),
      peer_(peer.release().ptr()) {}

void PyActor::stand_for(nb::object peer) {
  Py_XSETREF(peer_, peer.release().ptr());
}

bool PyActor::lives() const {
  if (foreign_) return foreign_->alive();
  return peer_ ? nb::cast<bool>(nb::handle(peer_).attr("is_alive")()) : alive();
}

bool PyActor::is_same(const PyActor& other) const noexcept {
  return memcmp(uuid(), other.uuid(), sizeof uuid()) == 0;
}

size_t PyActor::hash() const noexcept {
  size_t first;  // random: as good as all of it
  memcpy(&first, uuid(), sizeof first);
  return first >> 1;
}

ActorStatistics PyActor::counts() {
  if (!peer_) return target().statistics();
  nb::object all = nb::handle(peer_).attr("statistics")();
  return {.waiting = nb::cast<size_t>(nb::object(all[0])),
          .handled = nb::cast<uint64_t>(nb::object(all[1])),
          .failed = nb::cast<uint64_t>(nb::object(all[2])),
          .refused = nb::cast<uint64_t>(nb::object(all[3])),
          .busy_nanos = static_cast<Nanos>(nb::cast<double>(nb::object(all[4])) * 1e9),
          .restarted = nb::cast<uint64_t>(nb::object(all[5]))};
}

// Takes `message`, as tell() does.
void PyActor::forward(PyMessage* message, std::optional<Seconds> timeout, bool urgent) {
  const auto or_none = [](PyObject* object) { return object ? nb::borrow(object) : nb::none(); };
  const auto seconds = [](Nanos time) {
    return time == detail::kNever ? nb::none() : nb::object(nb::float_(static_cast<double>(time) * 1e-9));
  };
  try {
    const Nanos end = deadline_of(timeout);
    nb::handle(peer_).attr("deliver")(
        nb::make_tuple(static_cast<int>(message->kind), nb::borrow(message->content),
                       or_none(message->arguments), or_none(message->keywords)),
        or_none(message->reply), urgent, seconds(end), seconds(message->deadline));
  } catch (...) {
    PyMessage::drop(message);
    throw;
  }
  PyMessage::drop(message);
}

void PyActor::watch(nb::object function) {
  if (ended_) {
    function();
    return;
  }
  if (!watchers_ && !(watchers_ = PyList_New(0))) throw nb::python_error();
  if (PyList_Append(watchers_, function.ptr()) != 0) throw nb::python_error();
}

void PyActor::call_watchers() noexcept {
  ended_ = true;
  PyObject* watchers = std::exchange(watchers_, nullptr);
  for (Py_ssize_t i = 0; watchers && i < PyList_GET_SIZE(watchers); ++i) {
    PyObject* answer = PyObject_CallNoArgs(PyList_GET_ITEM(watchers, i));
    if (!answer) PyErr_WriteUnraisable(PyList_GET_ITEM(watchers, i));
    Py_XDECREF(answer);
  }
  Py_XDECREF(watchers);
}

namespace {

nb::object make_stand_in(nb::handle actor_class, nb::bytes uuid, nb::object peer) {
  uint8_t name[16];
  if (uuid.size() != sizeof name) raise_error(PyExc_ValueError, "the UUID of an actor has 16 bytes");
  memcpy(name, uuid.c_str(), sizeof name);
  const auto core = detail::Ref<PyActor>::adopt(new PyActor(actor_class, name, std::move(peer)));
  return ActorRefObject::make(*core);
}

// What came from another process: into the mailbox. Returns the future of its answer, or None.
nb::object hand_in(nb::handle reference, int kind, nb::handle content, nb::handle arguments,
                   nb::handle keywords, bool asked, std::optional<Seconds> timeout, bool urgent,
                   std::optional<double> deadline) {
  PyActor& core = core_of(reference);
  const auto or_null = [](nb::handle object) { return object.is_none() ? nullptr : object.ptr(); };
  auto* message =
      new PyMessage(static_cast<PyMessage::Kind>(kind), content, or_null(arguments), or_null(keywords));
  nb::object future = nb::none();
  if (deadline) message->deadline = static_cast<Nanos>(*deadline * 1e9);
  if (asked) {
    future = FutureObject::make(&core);
    message->reply = nb::handle(future).inc_ref().ptr();
  }
  core.tell(message, timeout, urgent);
  return future;
}

// Not a threading.Thread: unpatch() waits for those that are fibers.
void start_thread(const std::string& name, nb::callable function) {
  PyObject* argument = function.inc_ref().ptr();
  const int error = detail::start_os_thread(
      name.c_str(),
      [](void* callable) -> void* {
        if (!Py_IsInitialized() || finalizing()) return nullptr;
        sheltered([&] {
          const PyGILState_STATE state = PyGILState_Ensure();
          auto* called = static_cast<PyObject*>(callable);
          PyObject* answer = PyObject_CallNoArgs(called);
          if (!answer) PyErr_WriteUnraisable(called);
          Py_XDECREF(answer);
          Py_DECREF(called);
          PyGILState_Release(state);
        });
        return nullptr;
      },
      argument);
  if (error == 0) return;
  function.dec_ref();
  raise_errno(error);
}

}  // namespace

void add_remote_actors(nb::module_& m) {
  m.def("_make_stand_in", &make_stand_in, nb::arg("actor_class"), nb::arg("uuid"), nb::arg("peer"));
  m.def("_turn_into_stand_in",
        [](nb::handle reference, nb::object peer) { core_of(reference).stand_for(std::move(peer)); });
  m.def("_peer_of", [](nb::handle reference) { return core_of(reference).peer(); });
  m.def("_actor_uuid", [](nb::handle reference) {
    return nb::bytes(reinterpret_cast<const char*>(core_of(reference).uuid()), 16);
  });
  m.def("_actor_is_limited", [](nb::handle reference) { return core_of(reference).limited(); });
  m.def("_actor_blocks_when_full",
        [](nb::handle reference) { return core_of(reference).overflow() == Overflow::kBlock; });
  m.def("_wait_until_begun", [](nb::handle reference) { core_of(reference).wait_until_begun(); });
  m.def("_watch_actor",
        [](nb::handle reference, nb::object function) { core_of(reference).watch(std::move(function)); });
  m.def("_hand_in", &hand_in, nb::arg("actor_ref"), nb::arg("kind"), nb::arg("content").none(),
        nb::arg("arguments").none(), nb::arg("keywords").none(), nb::arg("asked"), nb::arg("timeout").none(),
        nb::arg("urgent"), nb::arg("deadline").none(),
        nb::sig("def _hand_in(actor_ref: ActorRef[Any], kind: int, content: Any, arguments: Any, keywords: "
                "Any, asked: bool, timeout: float | None, urgent: bool, deadline: float | None) -> Any"));
  m.def("_actor_count", [] { return detail::ActorCore::count(); });
  m.def("_start_os_thread", &start_thread, nb::arg("name"), nb::arg("function"));
}

}  // namespace weft::python
