// weft.actor.ActorProxy and CallableProxy.
//
// What a proxy knows of its actor is found out when the proxy is made, and again when a name is asked for
// that it does not know. What it makes for methods and traversable attributes is kept: asking for one again
// is a look-up.
#include <nanobind/stl/string.h>

#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "actor_object.hpp"

namespace weft::python {

namespace {

PyTypeObject* g_proxy_type = nullptr;
PyTypeObject* g_callable_type = nullptr;

class CallableProxyObject {
 public:
  CallableProxyObject(nb::object reference, nb::object path, std::optional<Seconds> within = std::nullopt)
      : reference_(std::move(reference)), path_(std::move(path)), within_(within) {}
  PyActor& core() const { return nb::inst_ptr<ActorRefObject>(reference_)->core(); }
  nb::object reference() const { return reference_; }
  nb::object path() const { return path_; }
  std::optional<Seconds> within() const { return within_; }
  PyMessage* message(PyObject* arguments, PyObject* keywords) const {
    return new PyMessage(PyMessage::Kind::kCall, path_, arguments, keywords);
  }
  int traverse(visitproc visit, void* arg) {
    Py_VISIT(reference_.ptr());
    Py_VISIT(path_.ptr());
    return 0;
  }

 private:
  nb::object reference_;  // an ActorRef
  nb::object path_;       // a tuple
  std::optional<Seconds> within_;
};

class ActorProxyObject {
 public:
  ActorProxyObject(nb::object reference, nb::object path)
      : reference_(std::move(reference)), path_(std::move(path)) {
    introspect(true);
  }

  PyActor& core() const { return nb::inst_ptr<ActorRefObject>(reference_)->core(); }
  nb::object reference() const { return reference_; }
  nb::object path() const { return path_; }
  nb::object known() const { return known_; }
  bool stands_for_same(const ActorProxyObject& other) const {
    return core().is_same(other.core()) &&
           PyObject_RichCompareBool(path_.ptr(), other.path_.ptr(), Py_EQ) == 1;
  }

  PyObject* attribute(PyObject* self, PyObject* name);
  int set_attribute(PyObject* name, PyObject* value);
  int traverse(visitproc visit, void* arg) {
    Py_VISIT(reference_.ptr());
    Py_VISIT(path_.ptr());
    Py_VISIT(known_.ptr());
    return 0;
  }
  void clear() {
    known_.reset();
    known_ = nb::dict();
  }

 private:
  nb::object path_to(PyObject* name) const { return nb::tuple(path_) + nb::make_tuple(nb::borrow(name)); }
  nb::dict present_names(nb::handle root) const;
  void introspect(bool first);
  PyObject* ask_for(PyObject* name);

  nb::object reference_;  // an ActorRef
  nb::object path_;       // a tuple
  // By name: None: a field; True, False: a method or a traversable attribute that nobody asked for yet; else
  // its proxy.
  nb::dict known_;
};

bool is_private(PyObject* name) {
  return PyUnicode_GET_LENGTH(name) > 0 && PyUnicode_READ_CHAR(name, 0) == '_';
}

bool marked(PyObject* object, const char* marker) {
  PyObject* value = PyObject_GetAttrString(object, marker);
  if (!value) PyErr_Clear();
  Py_XDECREF(value);
  return value == Py_True;
}

// The attribute as it stands in the instance's dictionary or in its classes', without calling properties.
PyObject* raw_attribute(PyObject* object, PyObject* name) {
  PyObject** dictionary = _PyObject_GetDictPtr(object);
  nb::object own;
  if (dictionary) {
    own = nb::steal(PyObject_GenericGetDict(object, nullptr));
    if (!own.is_valid()) PyErr_Clear();
  } else {
    own = nb::steal(PyObject_GetAttrString(object, "__dict__"));
    if (!own.is_valid()) PyErr_Clear();
  }
  if (own.is_valid() && PyDict_Check(own.ptr()))
    if (PyObject* value = PyDict_GetItemWithError(own.ptr(), name)) return value;
  return _PyType_Lookup(Py_TYPE(object), name);
}

// By name: None: a field; True: a method; False: a traversable attribute.
nb::dict ActorProxyObject::present_names(nb::handle root) const {
  nb::object owner = nb::steal(attribute_at(root.ptr(), path_.ptr(), PyTuple_GET_SIZE(path_.ptr())));
  if (!owner.is_valid()) throw nb::python_error();
  nb::object names = nb::steal(PyObject_Dir(owner.ptr()));
  if (!names.is_valid()) throw nb::python_error();
  nb::dict found;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(names.ptr()); ++i) {
    PyObject* name = PyList_GET_ITEM(names.ptr(), i);
    if (!PyUnicode_Check(name) || is_private(name)) continue;
    if (PyUnicode_CompareWithASCIIString(name, "actor_ref") == 0) continue;  // the proxy's own
    nb::object value = nb::borrow(raw_attribute(owner.ptr(), name));
    if (!value.is_valid()) {
      PyErr_Clear();
      continue;
    }
    if (nb::isinstance<ActorProxyObject>(value) && nb::inst_ready(value) &&
        nb::inst_ptr<ActorProxyObject>(value)->stands_for_same(*this)) {
      nb::borrow(actor_names.hooks).attr("proxy_to_itself")(root, path_to(name));
      continue;
    }
    const bool callable = PyCallable_Check(value.ptr());
    const bool traversable =
        !callable && (marked(value.ptr(), "_pykka_traversable") || marked(value.ptr(), "pykka_traversable"));
    PyObject* kind = callable ? Py_True : traversable ? Py_False : Py_None;
    if (PyDict_SetItem(found.ptr(), name, kind) != 0) throw nb::python_error();
  }
  return found;
}

void ActorProxyObject::introspect(bool first) {
  PyActor& core = this->core();
  nb::dict found;
  if (core.remote()) {
    nb::object names = core.peer().attr("names")(path_);
    if (!names.is_none()) found = nb::borrow<nb::dict>(names);
    if (names.is_none() && !first) return;
    if (names.is_none()) raise_text(actor_names.dead, core.text() + " not found");
  } else if (core.foreign()) {
    if (!core.lives() && !first) return;
    if (!core.lives()) raise_text(actor_names.dead, core.text() + " not found");
    if (PyTuple_GET_SIZE(path_.ptr()) == 0) found = core.foreign_methods();
  } else {
    nb::object root = core.model();
    if ((!core.alive() || root.is_none()) && !first) return;
    if (!core.alive() || root.is_none()) raise_text(actor_names.dead, core.text() + " not found");
    found = present_names(root);
  }
  // What was made for a name stays, if it is of the same kind.
  PyObject *name, *made;
  for (Py_ssize_t i = 0; PyDict_Next(known_.ptr(), &i, &name, &made);) {
    PyObject* kind = PyDict_GetItemWithError(found.ptr(), name);
    if ((kind == Py_True && Py_TYPE(made) == g_callable_type) ||
        (kind == Py_False && Py_TYPE(made) == g_proxy_type))
      if (PyDict_SetItem(found.ptr(), name, made) != 0) throw nb::python_error();
  }
  known_ = found;
}

PyObject* ActorProxyObject::ask_for(PyObject* name) {
  return core().ask(new PyMessage(PyMessage::Kind::kGet, path_to(name)), std::nullopt, false).release().ptr();
}

PyObject* ActorProxyObject::attribute(PyObject* self, PyObject* name) {
  PyObject* known = PyDict_GetItemWithError(known_.ptr(), name);
  if (known && known != Py_True && known != Py_False)
    return known == Py_None ? ask_for(name) : Py_NewRef(known);
  if (PyObject* own = PyObject_GenericGetAttr(self, name)) return own;
  if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return nullptr;
  PyErr_Clear();
  if (!known && !is_private(name)) {
    core().wait_until_begun();  // on_start() may be about to set it
    introspect(false);
    known = PyDict_GetItemWithError(known_.ptr(), name);
  }
  if (!known) {
    PyErr_Format(PyExc_AttributeError, "%S has no attribute %R", self, name);
    return nullptr;
  }
  if (known == Py_None) return ask_for(name);
  nb::object made;
  if (known == Py_True) {
    made = nb::inst_alloc(nb::handle(reinterpret_cast<PyObject*>(g_callable_type)));
    new (nb::inst_ptr<void>(made)) CallableProxyObject(reference_, path_to(name));
  } else {
    made = nb::inst_alloc(nb::handle(reinterpret_cast<PyObject*>(g_proxy_type)));
    new (nb::inst_ptr<void>(made)) ActorProxyObject(reference_, path_to(name));
  }
  nb::inst_mark_ready(made);
  if (PyDict_SetItem(known_.ptr(), name, made.ptr()) != 0) return nullptr;
  return made.release().ptr();
}

int ActorProxyObject::set_attribute(PyObject* name, PyObject* value) {
  PyObject* future = core()
                         .ask(new PyMessage(PyMessage::Kind::kSet, path_to(name), value), std::nullopt, false)
                         .release()
                         .ptr();
  nb::object kept = nb::steal(future);
  nb::inst_ptr<FutureObject>(kept)->get(std::nullopt);
  return 0;
}

// Turns what is thrown into what slots return.
template <typename R, typename F>
R slot(R failed, F&& function) noexcept {
  try {
    return function();
  } catch (nb::python_error& error) {
    error.restore();
  } catch (std::bad_alloc&) {
    PyErr_NoMemory();
  }
  return failed;
}

PyObject* get_attribute(PyObject* self, PyObject* name) {
  if (!nb::inst_ready(self)) return PyObject_GenericGetAttr(self, name);
  return slot<PyObject*>(nullptr,
                         [&] { return nb::inst_ptr<ActorProxyObject>(self)->attribute(self, name); });
}

int assign_attribute(PyObject* self, PyObject* name, PyObject* value) {
  if (!nb::inst_ready(self) || is_private(name)) return PyObject_GenericSetAttr(self, name, value);
  if (!value) {
    PyErr_SetString(PyExc_AttributeError, "attributes of an actor cannot be deleted through a proxy");
    return -1;
  }
  if (PyUnicode_CompareWithASCIIString(name, "actor_ref") == 0) {
    PyErr_SetString(PyExc_AttributeError, "a proxy's actor_ref cannot be changed: make another proxy");
    return -1;
  }
  return slot(-1, [&] { return nb::inst_ptr<ActorProxyObject>(self)->set_attribute(name, value); });
}

template <typename T>
int traverse_instance(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  return nb::inst_ready(self) ? nb::inst_ptr<T>(self)->traverse(visit, arg) : 0;
}

PyType_Slot g_proxy_slots[] = {
    {Py_tp_getattro, reinterpret_cast<void*>(&get_attribute)},
    {Py_tp_setattro, reinterpret_cast<void*>(&assign_attribute)},
    {Py_tp_traverse, reinterpret_cast<void*>(+[](PyObject* self, visitproc visit, void* arg) -> int {
       if (PyObject** dictionary = _PyObject_GetDictPtr(self)) Py_VISIT(*dictionary);
       return traverse_instance<ActorProxyObject>(self, visit, arg);
     })},
    {Py_tp_clear, reinterpret_cast<void*>(+[](PyObject* self) -> int {
       if (PyObject** dictionary = _PyObject_GetDictPtr(self)) Py_CLEAR(*dictionary);
       if (nb::inst_ready(self)) nb::inst_ptr<ActorProxyObject>(self)->clear();
       return 0;
     })},
    {0, nullptr}};

PyObject* call(PyObject* self, PyObject* arguments, PyObject* keywords) {
  return slot<PyObject*>(nullptr, [&] {
    auto* proxy = nb::inst_ptr<CallableProxyObject>(self);
    return proxy->core()
        .ask(proxy->message(arguments, keywords), std::nullopt, false, proxy->within())
        .release()
        .ptr();
  });
}

PyType_Slot g_callable_slots[] = {
    {Py_tp_call, reinterpret_cast<void*>(&call)},
    {Py_tp_traverse, reinterpret_cast<void*>(&traverse_instance<CallableProxyObject>)},
    {0, nullptr}};

nb::object checked_reference(nb::handle reference) {
  if (!nb::isinstance<ActorRefObject>(reference))
    raise_error(PyExc_TypeError, "actor_ref must be an ActorRef, as Actor.start() returns it");
  return nb::borrow(reference);
}

nb::object path_of(nb::handle path) {
  if (path.is_none()) return nb::make_tuple();
  nb::object whole = nb::steal(PySequence_Tuple(path.ptr()));
  if (!whole.is_valid()) throw nb::python_error();
  return whole;
}

}  // namespace

void add_actor_proxies(nb::module_& m) {
  nb::class_<ActorProxyObject> proxy(
      m, "ActorProxy", nb::type_slots(g_proxy_slots), nb::is_generic(), nb::dynamic_attr(),
      nb::is_weak_referenceable(), nb::sig("class ActorProxy(Generic[A_co])"),
      "An actor's attributes and methods, as if it were here: each access and each call is a message.\n\n"
      "Reading an attribute and calling a method give a Future. Assigning waits until it is done. A method "
      "that is\n"
      "not called is a CallableProxy. The attributes of a traversable attribute are reached the same way.");
  proxy
      .def(
          "__init__",
          [](ActorProxyObject* self, nb::handle actor_ref, nb::handle attr_path) {
            new (self) ActorProxyObject(checked_reference(actor_ref), path_of(attr_path));
          },
          nb::kw_only(), nb::arg("actor_ref"), nb::arg("attr_path").none() = nb::none(),
          nb::sig("def __init__(self, *, actor_ref: ActorRef[A_co], attr_path: tuple[str, ...] | None = "
                  "None) -> None"))
      .def_prop_ro("actor_ref", &ActorProxyObject::reference,
                   nb::sig("def actor_ref(self) -> ActorRef[A_co]"), "The actor's ActorRef.")
      .def(
          "__eq__",
          [](const ActorProxyObject& self, nb::handle other) {
            return nb::isinstance<ActorProxyObject>(other) &&
                   nb::inst_ptr<ActorProxyObject>(other)->stands_for_same(self);
          },
          nb::arg("other").none(), nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__hash__",
           [](const ActorProxyObject& self) {
             return nb::hash(nb::make_tuple(self.core().hash(), self.path()));
           })
      .def("__dir__",
           [](nb::handle self) {
             nb::list names;
             for (const char* name : {"__class__", "__dict__", "__getattr__", "__setattr__", "__eq__",
                                      "__hash__", "__repr__", "__dir__", "__init__", "actor_ref"})
               names.append(name);
             for (auto [name, value] : nb::borrow<nb::dict>(nb::inst_ptr<ActorProxyObject>(self)->known()))
               names.append(name);
             nb::object own = nb::steal(PyObject_GenericGetDict(self.ptr(), nullptr));
             if (own.is_valid())
               for (nb::handle name : own) names.append(name);
             else
               PyErr_Clear();
             names.sort();
             return names;
           })
      .def(
          "__deepcopy__", [](nb::handle self, nb::handle) { return nb::borrow(self); }, nb::arg("memo"),
          nb::sig("def __deepcopy__(self, memo: object) -> ActorProxy[A_co]"))
      .def(
          "__reduce__",
          [](nb::handle) -> nb::object {
            raise_error(PyExc_TypeError,
                        "an ActorProxy cannot be pickled: send its actor_ref, and make a proxy of that");
          },
          nb::sig("def __reduce__(self) -> NoReturn"))
      .def("__repr__", [](const ActorProxyObject& self) {
        return "<ActorProxy for " + self.core().text() + ", attr_path=" + nb::repr(self.path()).c_str() + ">";
      });
  g_proxy_type = reinterpret_cast<PyTypeObject*>(proxy.ptr());

  nb::class_<CallableProxyObject> callable(
      m, "CallableProxy", nb::type_slots(g_callable_slots), nb::is_generic(), nb::is_weak_referenceable(),
      nb::sig("class CallableProxy(Generic[A_co])"),
      "A method of an actor. Calling it asks the actor, and gives a Future; defer() only tells it.");
  callable
      .def(
          "__init__",
          [](CallableProxyObject* self, nb::handle actor_ref, nb::handle attr_path) {
            new (self) CallableProxyObject(checked_reference(actor_ref), path_of(attr_path));
          },
          nb::kw_only(), nb::arg("actor_ref"), nb::arg("attr_path"),
          nb::sig("def __init__(self, *, actor_ref: ActorRef[A_co], attr_path: tuple[str, ...]) -> None"))
      .def_prop_ro("actor_ref", &CallableProxyObject::reference,
                   nb::sig("def actor_ref(self) -> ActorRef[A_co]"), "The actor's ActorRef.")
      .def(
          "within",
          [](const CallableProxyObject& self, Seconds seconds) {
            deadline_of(seconds);  // says what is wrong with it
            nb::object made = nb::inst_alloc(nb::handle(reinterpret_cast<PyObject*>(g_callable_type)));
            new (nb::inst_ptr<void>(made)) CallableProxyObject(self.reference(), self.path(), seconds);
            nb::inst_mark_ready(made);
            return made;
          },
          nb::arg("seconds").none(), nb::sig("def within(self, seconds: float) -> CallableProxy[A_co]"),
          "The same method with a deadline for each call, as of ActorRef.ask(within=...).")
      .def(
          "defer",
          [](const CallableProxyObject& self, nb::args arguments, nb::kwargs keywords) {
            PyMessage* message = self.message(arguments.ptr(), keywords.ptr());
            if (self.within()) message->deadline = deadline_of(self.within());
            self.core().tell(message, std::nullopt, false);
          },
          nb::sig("def defer(self, *args: Any, **kwargs: Any) -> None"),
          "Have the method called, and do not ask for what it returns: what it raises is a failure of the "
          "actor.");
  callable.def(
      "__reduce__",
      [](nb::handle) -> nb::object {
        raise_error(PyExc_TypeError,
                    "a CallableProxy cannot be pickled: send its actor_ref, and make a proxy of that");
      },
      nb::sig("def __reduce__(self) -> NoReturn"));
  g_callable_type = reinterpret_cast<PyTypeObject*>(callable.ptr());
  m.def("_proxy_names", [](nb::handle proxy_) { return nb::inst_ptr<ActorProxyObject>(proxy_)->known(); });
}

}  // namespace weft::python
