// What becomes of messages and answers on their way: shared as they are, copied, or frozen.
#include <cstring>
#include <string>

#include "actor_object.hpp"

namespace weft::python {

std::string type_name(PyObject* object) {
  nb::handle type(reinterpret_cast<PyObject*>(Py_TYPE(object)));
  const std::string module = nb::str(type.attr("__module__")).c_str();
  const std::string name = nb::str(type.attr("__qualname__")).c_str();
  return module == "builtins" ? name : module + "." + name;
}

namespace {

nb::object copied(nb::handle object) {
  static PyObject* deepcopy = imported("copy", "deepcopy");
  nb::object copy = nb::steal(PyObject_CallOneArg(deepcopy, object.ptr()));
  if (copy.is_valid()) return copy;
  if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw nb::python_error();
  PyObject* cause = take_exception();
  PyErr_Format(
      PyExc_TypeError,
      "a message cannot be copied: %S: give the actor's class message_isolation = \"share\", or the type a "
      "__deepcopy__()",
      cause);
  PyObject* error = take_exception();
  PyException_SetCause(error, cause);
  set_exception(error);
  Py_DECREF(error);
  throw nb::python_error();
}

bool is_immutable(PyObject* object) {
  return object == Py_None || object == Py_Ellipsis || object == Py_NotImplemented || PyBool_Check(object) ||
         PyLong_CheckExact(object) || PyFloat_CheckExact(object) || PyComplex_CheckExact(object) ||
         PyUnicode_CheckExact(object) || PyBytes_CheckExact(object) || PyRange_Check(object) ||
         PyType_Check(object) || PyFunction_Check(object) || PyCFunction_Check(object) ||
         PyModule_Check(object) || nb::isinstance<ActorRefObject>(object) ||
         nb::isinstance<FutureObject>(object);
}

nb::object frozen(nb::handle object);

nb::object frozen_items(nb::handle items) {
  nb::object sequence = nb::steal(PySequence_Fast(items.ptr(), "an iterable"));
  if (!sequence.is_valid()) throw nb::python_error();
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(sequence.ptr());
  nb::object all = nb::steal(PyTuple_New(count));
  if (!all.is_valid()) throw nb::python_error();
  for (Py_ssize_t i = 0; i < count; ++i)
    PyTuple_SET_ITEM(all.ptr(), i, frozen(PySequence_Fast_GET_ITEM(sequence.ptr(), i)).release().ptr());
  return all;
}

nb::dict frozen_values(nb::handle mapping) {
  nb::dict all;
  PyObject *key, *value;
  for (Py_ssize_t place = 0; PyDict_Next(mapping.ptr(), &place, &key, &value);) all[key] = frozen(value);
  return all;
}

// A dataclass that says frozen=True, and all of whose fields are frozen.
bool is_frozen_dataclass(nb::handle object) {
  nb::handle type(reinterpret_cast<PyObject*>(Py_TYPE(object.ptr())));
  if (!nb::hasattr(type, "__dataclass_params__")) return false;
  if (!nb::cast<bool>(nb::object(type.attr("__dataclass_params__").attr("frozen")))) return false;
  for (nb::handle field : nb::object(type.attr("__dataclass_fields__"))) {
    nb::object value = nb::getattr(object, field);
    if (!frozen(value).is(value)) return false;
  }
  return true;
}

nb::object frozen_slowly(nb::handle object) {
  PyObject* it = object.ptr();
  if (PyTuple_CheckExact(it)) {
    nb::object all = frozen_items(object);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(it); ++i)
      if (PyTuple_GET_ITEM(it, i) != PyTuple_GET_ITEM(all.ptr(), i)) return all;
    return nb::borrow(object);
  }
  if (PyTuple_Check(it) && nb::hasattr(object, "_make"))
    return object.type().attr("_make")(frozen_items(object));
  if (PyList_CheckExact(it)) return frozen_items(object);
  if (PyDict_CheckExact(it)) {
    nb::object proxy = nb::steal(PyDictProxy_New(frozen_values(object).ptr()));
    if (!proxy.is_valid()) throw nb::python_error();
    return proxy;
  }
  if (PyFrozenSet_CheckExact(it)) return nb::borrow(object);  // its items have a hash
  if (PySet_CheckExact(it)) return nb::steal(PyFrozenSet_New(it));
  if (PyByteArray_CheckExact(it)) return nb::steal(PyBytes_FromObject(it));
  if (Py_TYPE(it) == &PyDictProxy_Type) {
    nb::dict copy;
    if (PyDict_Update(copy.ptr(), it) != 0) throw nb::python_error();
    return nb::steal(PyDictProxy_New(frozen_values(copy).ptr()));
  }
  static PyObject* enumeration = imported("enum", "Enum");
  if (PyObject_IsInstance(it, enumeration) == 1 || is_frozen_dataclass(object)) return nb::borrow(object);
  raise_text(PyExc_TypeError,
             "a message cannot be frozen: " + type_name(it) +
                 " can be changed: send what cannot (a tuple, a frozen dataclass), or give the "
                 "actor's class message_isolation = \"copy\"");
}

nb::object frozen(nb::handle object) {
  if (is_immutable(object.ptr())) return nb::borrow(object);
  if (Py_EnterRecursiveCall(" while a message was frozen")) throw nb::python_error();
  try {
    nb::object result = frozen_slowly(object);
    Py_LeaveRecursiveCall();
    return result;
  } catch (...) {
    Py_LeaveRecursiveCall();
    throw;
  }
}

void replace(PyObject*& place, nb::object with) noexcept {
  PyObject* former = place;
  place = with.release().ptr();
  Py_XDECREF(former);
}

}  // namespace

Isolation isolation_of(const char* name) {
  for (auto [text, value] :
       {std::pair("share", Isolation::kShare), {"copy", Isolation::kCopy}, {"freeze", Isolation::kFreeze}})
    if (strcmp(name, text) == 0) return value;
  raise_error(PyExc_ValueError, "message_isolation must be 'share', 'copy' or 'freeze'");
}

nb::object isolated(nb::handle object, Isolation how) {
  switch (how) {
    case Isolation::kCopy:
      return copied(object);
    case Isolation::kFreeze:
      return frozen(object);
    case Isolation::kShare:
      break;
  }
  return nb::borrow(object);
}

void isolate(PyMessage& message, Isolation how) {
  switch (message.kind) {
    case PyMessage::Kind::kOrdinary:
      replace(message.content, isolated(message.content, how));
      return;
    case PyMessage::Kind::kCall:
      replace(message.arguments, isolated(message.arguments, how));
      if (message.keywords)
        replace(message.keywords, how == Isolation::kFreeze ? nb::object(frozen_values(message.keywords))
                                                            : isolated(message.keywords, how));
      return;
    case PyMessage::Kind::kSet:
      replace(message.arguments, isolated(message.arguments, how));
      return;
    case PyMessage::Kind::kGet:
    case PyMessage::Kind::kStop:
      return;
  }
}

}  // namespace weft::python
