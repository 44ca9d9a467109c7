// What the package shows of the extension module. Its functions as the interpreter's own kind, which
// inspect.signature(), help() and pickle know what to do with: nanobind's own are of a type that they do not
// know. And its types by the names that programs have for them.
//
// Done when the package is imported and not when the module is made: the stub generator reads the types from
// nanobind's functions, and what is to be in the stub from the types' module.
#include <nanobind/nanobind.h>

#include <algorithm>
#include <string>

#include "python.hpp"

namespace weft::python {

namespace {

template <size_t kSize>
struct Name {
  char text[kSize];
  consteval Name(const char (&name)[kSize]) { std::copy_n(name, kSize, text); }
};

/// Puts a function that calls the one of that name in its place. `signature` is what CPython takes for one:
/// without types.
template <Name kName>
void publish_function(nb::handle module, const char* signature) {
  static PyObject* function = nullptr;
  static std::string doc;
  static PyMethodDef definition;
  if (function) return;
  nb::object original = module.attr(kName.text);
  doc = std::string(kName.text) + signature + "\n--\n\n" +
        nb::cast<nb::str>(original.attr("__nb_signature__")[0][1]).c_str();
  const auto call = +[](PyObject*, PyObject* const* arguments, Py_ssize_t count, PyObject* names) {
    return PyObject_Vectorcall(function, arguments, static_cast<size_t>(count), names);
  };
  definition = {kName.text, reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(call)),
                METH_FASTCALL | METH_KEYWORDS, doc.c_str()};
  nb::object made = nb::steal(PyCFunction_NewEx(&definition, nullptr, module.attr("__name__").ptr()));
  if (!made.is_valid()) throw nb::python_error();
  module.attr(kName.text) = made;
  function = original.release().ptr();
}

/// `make`: what its instances come from, where calling the type makes none.
template <Name kName>
void publish_type(nb::handle module, const char* name, const char* make = nullptr) {
  static const char* maker;
  nb::object type = module.attr(kName.text);
  type.attr("__module__") = "weft";
  auto* object = reinterpret_cast<PyTypeObject*>(type.ptr());
  object->tp_name = name;  // for the interpreter's messages
  maker = make;
  if (!make) return;
  object->tp_vectorcall = [](PyObject* self, PyObject* const*, size_t, PyObject*) -> PyObject* {
    PyErr_Format(PyExc_TypeError, "%s is made by %s, not by a call",
                 reinterpret_cast<PyTypeObject*>(self)->tp_name, maker);
    return nullptr;
  };
}

}  // namespace

void publish(nb::handle module) {
  publish_type<"Case">(module, "weft.Case", "weft.sending(), readable(), writable() and after()");
  publish_type<"Channel">(module, "weft.Channel");
  publish_type<"Fiber">(module, "weft.Fiber", "weft.spawn()");
  publish_type<"shield">(module, "weft.shield");
  publish_type<"timeout">(module, "weft.timeout");
  publish_function<"after">(module, "(seconds)");
  publish_function<"current">(module, "()");
  publish_function<"readable">(module, "(file)");
  publish_function<"running">(module, "()");
  publish_function<"select">(module, "(*cases, wait=True)");
  publish_function<"sending">(module, "(channel, item)");
  publish_function<"sleep">(module, "(seconds)");
  publish_function<"start">(module, "()");
  publish_function<"to_thread">(module, "(function, /, *args, **kwargs)");
  publish_function<"wait_readable">(module, "(file, timeout=None)");
  publish_function<"wait_writable">(module, "(file, timeout=None)");
  publish_function<"writable">(module, "(file)");
  publish_function<"yield_now">(module, "()");
}

}  // namespace weft::python
