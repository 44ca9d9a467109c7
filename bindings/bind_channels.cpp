// weft.Channel and select().
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "fiber_object.hpp"
#include "weft/detail/channel.hpp"

namespace weft::python {

namespace {

// An item is a reference, moved without touching it: no GIL is needed for that, unlike for letting it go.
const detail::ItemType kReference{
    sizeof(PyObject*), alignof(PyObject*),
    [](void* to, void* from) noexcept { *static_cast<PyObject**>(to) = *static_cast<PyObject**>(from); },
    [](void* item) noexcept {
      const PyGILState_STATE state = PyGILState_Ensure();
      Py_DECREF(*static_cast<PyObject**>(item));
      PyGILState_Release(state);
    }};

class ChannelObject {
 public:
  /// Somebody waits at the channel, or may, without the GIL: made and ended under it.
  class Waiting {
   public:
    explicit Waiting(ChannelObject& channel) : channel_(&channel) { ++channel.waiting_; }
    Waiting(Waiting&& other) noexcept : channel_(std::exchange(other.channel_, nullptr)) {}
    ~Waiting() {
      if (channel_) --channel_->waiting_;
    }

   private:
    ChannelObject* channel_;
  };

  explicit ChannelObject(nb::handle capacity)
      : core_(detail::channel_create(items_of(capacity), kReference)) {
    if (!core_) raise_capacity(PyExc_MemoryError);
  }
  // Items that are left go with the core, under the GIL: the object is only ever destroyed so.
  ~ChannelObject() {
    clear();
    detail::channel_release(*core_);
  }

  // For the collector, which holds the GIL from its first look to its verdict: what it sees must not change
  // until then. So where items may come and go without the GIL, it is shown none, and takes them all for
  // reachable from elsewhere. Nothing is missed by that: who waits knows the channel.
  int traverse(visitproc visit, void* arg) const {
    if (waiting_ > 0) return 0;
    struct Visitor {
      visitproc visit;
      void* arg;
    } visitor{visit, arg};
    return detail::channel_visit(
        *core_,
        [](void* item, void* argument) {
          const auto* to = static_cast<Visitor*>(argument);
          return to->visit(*static_cast<PyObject**>(item), to->arg);
        },
        &visitor);
  }
  void clear() {
    PyObject* item;
    // What goes may send more in its turn.
    for (size_t left = size(); left > 0; --left)
      if (detail::channel_receive(*core_, &item, 0) == Outcome::kReady) Py_DECREF(item);
  }

  void send(nb::object item, std::optional<Seconds> timeout) {
    if (!transfer_out(item, deadline_of(timeout)))
      raise_error(exceptions.timeout, "nobody took the item in that time");
  }
  bool try_send(nb::object item) { return transfer_out(item, 0); }

  nb::object receive(std::optional<Seconds> timeout) {
    nb::object item = transfer_in(deadline_of(timeout));
    if (!item.is_valid()) raise_error(exceptions.timeout, "no item came in that time");
    return item;
  }
  nb::object try_receive(nb::object otherwise) {
    nb::object item = transfer_in(0);
    return item.is_valid() ? item : otherwise;
  }
  nb::object next() {
    PyObject* item = nullptr;
    const Outcome outcome = wait_for_item(&item, detail::kNever);
    if (outcome == Outcome::kClosed) throw nb::stop_iteration();
    raise_outcome(outcome);
    return nb::steal(item);
  }

  bool close() { return detail::channel_close(*core_); }
  bool closed() const { return detail::channel_closed(*core_); }
  size_t size() const { return detail::channel_size(*core_); }
  std::optional<size_t> capacity() const {
    const size_t capacity = detail::channel_capacity(*core_);
    return capacity == detail::kUnbounded ? std::nullopt : std::optional(capacity);
  }
  detail::ChannelCore& core() const noexcept { return *core_; }
  std::string repr() const {
    const size_t items = size(), most = detail::channel_capacity(*core_);
    return "<weft.Channel(" + (most == detail::kUnbounded ? std::string("None") : std::to_string(most)) +
           "): " + std::to_string(items) + (items == 1 ? " item" : " items") + (closed() ? ", closed>" : ">");
  }

 private:
  [[noreturn]] static void raise_capacity(PyObject* type) {
    raise_error(type, "Channel(capacity): 0 for unbuffered, N for at most N items, None for unbounded");
  }
  static size_t items_of(nb::handle capacity) {
    if (capacity.is_none()) return detail::kUnbounded;
    if (!PyIndex_Check(capacity.ptr())) raise_capacity(PyExc_TypeError);
    const Py_ssize_t items = PyNumber_AsSsize_t(capacity.ptr(), PyExc_OverflowError);
    if (items == -1 && PyErr_ExceptionMatches(PyExc_OverflowError)) raise_capacity(PyExc_OverflowError);
    if (items == -1 && PyErr_Occurred()) throw nb::python_error();
    if (items < 0) raise_capacity(PyExc_ValueError);
    return static_cast<size_t>(items);
  }
  bool transfer_out(nb::object& item, Nanos deadline) {
    PyObject* reference = item.ptr();
    // First without letting the GIL go: mostly it can be done at once.
    Outcome outcome = detail::channel_send(*core_, &reference, 0);
    if (outcome == Outcome::kTimeout && deadline != 0) {
      ensure_runtime();
      const Waiting waiting(*this);
      outcome = blocking([&] { return detail::channel_send(*core_, &reference, deadline); });
    }
    if (outcome == Outcome::kTimeout) return false;
    raise_outcome(outcome);
    item.release();  // it is the channel's now
    return true;
  }
  Outcome wait_for_item(PyObject** item, Nanos deadline) {
    Outcome outcome = detail::channel_receive(*core_, item, 0);
    if (outcome != Outcome::kTimeout || deadline == 0) return outcome;
    ensure_runtime();
    const Waiting waiting(*this);
    return blocking([&] { return detail::channel_receive(*core_, item, deadline); });
  }
  nb::object transfer_in(Nanos deadline) {
    PyObject* item = nullptr;
    const Outcome outcome = wait_for_item(&item, deadline);
    if (outcome == Outcome::kTimeout) return {};
    raise_outcome(outcome);
    return nb::steal(item);
  }

  detail::ChannelCore* core_;
  std::atomic<int> waiting_{0};
};

PyType_Slot g_channel_slots[] = {
    {Py_tp_traverse, reinterpret_cast<void*>(+[](PyObject* self, visitproc visit, void* arg) -> int {
       Py_VISIT(Py_TYPE(self));
       return nb::inst_ready(self) ? nb::inst_ptr<ChannelObject>(self)->traverse(visit, arg) : 0;
     })},
    {Py_tp_clear, reinterpret_cast<void*>(+[](PyObject* self) -> int {
       if (nb::inst_ready(self)) nb::inst_ptr<ChannelObject>(self)->clear();
       return 0;
     })},
    {0, nullptr}};

/// What select() takes beside channels.
struct SelectCase {
  detail::Case::Kind kind = detail::Case::Kind::kNothing;
  nb::object source;  // kept alive
  nb::object item;    // to be sent
  int descriptor = -1;
  short events = 0;
  std::optional<Seconds> after;
};

PyType_Slot g_case_slots[] = {
    {Py_tp_traverse, reinterpret_cast<void*>(+[](PyObject* self, visitproc visit, void* arg) -> int {
       Py_VISIT(Py_TYPE(self));
       if (!nb::inst_ready(self)) return 0;
       const auto* c = nb::inst_ptr<SelectCase>(self);
       Py_VISIT(c->source.ptr());
       Py_VISIT(c->item.ptr());
       return 0;
     })},
    {Py_tp_clear, reinterpret_cast<void*>(+[](PyObject* self) -> int {
       if (!nb::inst_ready(self)) return 0;
       auto* c = nb::inst_ptr<SelectCase>(self);
       c->kind = detail::Case::Kind::kNothing;
       c->source.reset();
       c->item.reset();
       return 0;
     })},
    {0, nullptr}};

SelectCase case_of(nb::handle object) {
  if (nb::isinstance<SelectCase>(object)) return nb::cast<SelectCase&>(object);
  SelectCase c;
  c.source = nb::borrow(object);
  if (nb::isinstance<ChannelObject>(object)) {
    c.kind = detail::Case::Kind::kReceive;
  } else if (nb::isinstance<FiberObject>(object)) {
    c.kind = detail::Case::Kind::kCompletion;
  } else {
    PyErr_Format(PyExc_TypeError,
                 "select() takes channels, fibers, and what sending(), readable(), writable() and after() "
                 "return, not %.100s",
                 Py_TYPE(object.ptr())->tp_name);
    throw nb::python_error();
  }
  return c;
}

nb::tuple select(nb::args arguments, bool wait) {
  if (arguments.size() == 0) raise_error(PyExc_TypeError, "select() takes one case at least");
  ensure_runtime();
  const size_t count = arguments.size();
  std::vector<SelectCase> cases;
  cases.reserve(count);
  for (nb::handle argument : arguments) cases.push_back(case_of(argument));
  std::vector<detail::Case> untyped(count);
  std::vector<PyObject*> items(count);
  std::vector<ChannelObject*> channels;
  Nanos deadline = detail::kNever;
  size_t timer = SIZE_MAX;
  for (size_t i = 0; i < count; ++i) {
    untyped[i].kind = cases[i].kind;
    untyped[i].item = &items[i];
    untyped[i].descriptor = cases[i].descriptor;
    untyped[i].events = cases[i].events;
    if (cases[i].kind == detail::Case::Kind::kReceive || cases[i].kind == detail::Case::Kind::kSend) {
      channels.push_back(&nb::cast<ChannelObject&>(cases[i].source));
      untyped[i].channel = &channels.back()->core();
    }
    if (cases[i].kind == detail::Case::Kind::kSend) items[i] = cases[i].item.ptr();
    if (cases[i].kind == detail::Case::Kind::kCompletion)
      untyped[i].completion = &nb::cast<FiberObject&>(cases[i].source).task();
    if (!cases[i].after) continue;
    const Nanos end = deadline_of(cases[i].after);
    if (end < deadline) {
      deadline = end;
      timer = i;
    }
  }
  size_t chosen = SIZE_MAX;
  Outcome outcome = detail::select(untyped.data(), count, 0, &chosen);
  if (outcome == Outcome::kTimeout && !wait) return nb::make_tuple(nb::none(), nb::none());
  if (outcome == Outcome::kTimeout) {
    std::vector<ChannelObject::Waiting> waiting;
    waiting.reserve(channels.size());
    for (ChannelObject* channel : channels) waiting.emplace_back(*channel);
    outcome = blocking([&] {
      for (size_t i = 0; i < count; ++i) untyped[i].events = cases[i].events;
      return detail::select(untyped.data(), count, std::max<Nanos>(deadline, 1), &chosen);
    });
  }
  if (outcome == Outcome::kTimeout) return nb::make_tuple(timer, nb::none());
  raise_outcome(outcome);
  detail::Case& c = untyped[chosen];
  nb::object value = nb::none();
  switch (c.kind) {
    case detail::Case::Kind::kSend:
      raise_outcome(c.outcome);
      cases[chosen].item.release();  // this reference is the channel's now; the Case keeps its own
      break;
    case detail::Case::Kind::kReceive:
      raise_outcome(c.outcome);
      value = nb::steal(items[chosen]);
      break;
    case detail::Case::Kind::kDescriptor:
      if (c.events & POLLNVAL) raise_errno(EBADF);
      break;
    case detail::Case::Kind::kCompletion:
      value = cases[chosen].source;
      break;
    case detail::Case::Kind::kNothing:
      break;
  }
  return nb::make_tuple(chosen, value);
}

SelectCase descriptor_case(nb::handle file, short events) {
  SelectCase c;
  c.kind = detail::Case::Kind::kDescriptor;
  c.source = nb::borrow(file);
  c.descriptor = descriptor_of(file);
  c.events = events;
  return c;
}

nb::object repr_of(nb::handle self) {
  const SelectCase& c = nb::cast<const SelectCase&>(self);
  if (c.after)
    return nb::steal(PyUnicode_FromFormat("<weft.Case: after(%S)>", nb::float_(c.after->value).ptr()));
  if (c.kind == detail::Case::Kind::kDescriptor)
    return nb::steal(PyUnicode_FromFormat("<weft.Case: %s(%d)>", c.events & POLLIN ? "readable" : "writable",
                                          c.descriptor));
  // The item may have this case in it.
  const int inside = Py_ReprEnter(self.ptr());
  if (inside != 0) return inside < 0 ? nb::object() : nb::object(nb::str("<weft.Case: ...>"));
  nb::object text =
      nb::steal(PyUnicode_FromFormat("<weft.Case: sending(%R, %R)>", c.source.ptr(), c.item.ptr()));
  Py_ReprLeave(self.ptr());
  if (!text.is_valid()) throw nb::python_error();
  return text;
}

}  // namespace

void add_channels(nb::module_& m) {
  nb::class_<ChannelObject>(
      m, "Channel", nb::is_generic(), nb::is_weak_referenceable(), nb::type_slots(g_channel_slots),
      nb::sig("class Channel(Generic[T])"),
      "A queue through which fibers and threads hand each other items.\n\n"
      "capacity 0: a send ends when a receiver has the item. N: up to N items wait in it. None: sending\n"
      "never waits. Waits are cancellation points; an item whose send did not end stays with its sender.")
      .def(nb::init<nb::handle>(), nb::arg("capacity").none() = 0,
           nb::sig("def __init__(self, capacity: int | None = 0) -> None"))
      .def("send", &ChannelObject::send, nb::arg("item").none(), nb::arg("timeout") = nb::none(),
           nb::sig("def send(self, item: T, timeout: float | None = None) -> None"),
           "Hand in an item. Raise weft.Closed if it is closed, weft.Timeout after `timeout` seconds.")
      .def("try_send", &ChannelObject::try_send, nb::arg("item").none(),
           nb::sig("def try_send(self, item: T) -> bool"),
           "Hand in an item if that can be done at once; return whether it could.")
      .def("receive", &ChannelObject::receive, nb::arg("timeout") = nb::none(),
           nb::sig("def receive(self, timeout: float | None = None) -> T"),
           "Return the next item. Raise weft.Closed if it is closed and empty, weft.Timeout after `timeout` "
           "seconds.")
      .def("try_receive", &ChannelObject::try_receive, nb::arg("default") = nb::none(),
           nb::sig("def try_receive(self, default: D = None) -> T | D"),
           "Return the next item if one is there, else `default`. Raise weft.Closed if none will ever be.")
      .def("close", &ChannelObject::close,
           "End it: senders get weft.Closed, receivers what is left in it. Return False if it was closed.")
      .def_prop_ro("closed", &ChannelObject::closed, "Has close() been called?")
      .def_prop_ro("capacity", &ChannelObject::capacity, "As given; None: unbounded.")
      .def("__len__", &ChannelObject::size)
      .def(
          "__iter__", [](nb::handle self) { return nb::borrow(self); },
          nb::sig("def __iter__(self) -> Channel[T]"))
      .def("__next__", &ChannelObject::next, nb::sig("def __next__(self) -> T"))
      .def(
          "__reduce__",
          [](nb::handle self) { return nb::module_::import_("weft.actor._ends").attr("reduce")(self); },
          nb::sig("def __reduce__(self) -> tuple[Any, ...]"))
      .def(
          "__copy__", [](nb::handle self) { return nb::borrow(self); },
          nb::sig("def __copy__(self) -> Channel[T]"))
      .def(
          "__deepcopy__", [](nb::handle self, nb::handle) { return nb::borrow(self); }, nb::arg("memo"),
          nb::sig("def __deepcopy__(self, memo: object) -> Channel[T]"))
      .def("__repr__", &ChannelObject::repr);
  nb::class_<SelectCase>(
      m, "Case", nb::is_final(), nb::type_slots(g_case_slots),
      "What sending(), readable(), writable() and after() return, for select().\n\n"
      "May be given to it any number of times: each select() sends the item again, and begins to "
      "count the time.")
      .def("__repr__", &repr_of, nb::sig("def __repr__(self) -> str"));
  m.def(
      "sending",
      [](nb::handle channel, nb::object item) {
        if (!nb::isinstance<ChannelObject>(channel))
          raise_error(PyExc_TypeError, "sending() takes a Channel and an item");
        SelectCase c;
        c.kind = detail::Case::Kind::kSend;
        c.source = nb::borrow(channel);
        c.item = std::move(item);
        return c;
      },
      nb::arg("channel"), nb::arg("item").none(),
      nb::sig("def sending(channel: Channel[T], item: T) -> Case"),
      "A case of select(): hand `item` to the channel.");
  m.def(
      "readable", [](nb::handle file) { return descriptor_case(file, POLLIN); }, nb::arg("file"),
      "A case of select(): a descriptor, or an object with fileno(), can be read from.");
  m.def(
      "writable", [](nb::handle file) { return descriptor_case(file, POLLOUT); }, nb::arg("file"),
      "A case of select(): a descriptor, or an object with fileno(), can be written to.");
  m.def(
      "after",
      [](Seconds seconds) {
        deadline_of(seconds);
        SelectCase c;
        c.after = seconds;
        return c;
      },
      nb::arg("seconds").none(), nb::sig("def after(seconds: float) -> Case"),
      "A case of select(): so many seconds have passed since select() was called.");
  m.def("select", &select, nb::arg("cases"), nb::arg("wait") = true,
        "Wait until one of the cases can go on, have it done, and return its number and value.\n\n"
        "A channel stands for receiving: the value is the item; weft.Closed is raised if it is closed and "
        "empty.\n"
        "A fiber stands for its end. Of several that can, one by chance; nothing is done of the others. "
        "wait=False:\n"
        "return (None, None) if none can. A cancellation point.");
}

}  // namespace weft::python
