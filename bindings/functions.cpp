// The package's functions as the interpreter's own kind, which inspect.signature(), help() and pickle know
// what to do with. nanobind's own are of a type that they do not know.
//
// Done when the package is imported and not when the module is made: the stub generator reads the types from
// nanobind's functions.
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
void publish(nb::handle module, const char* signature) {
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

}  // namespace

void publish_functions(nb::handle module) {
  publish<"after">(module, "(seconds)");
  publish<"current">(module, "()");
  publish<"readable">(module, "(file)");
  publish<"running">(module, "()");
  publish<"select">(module, "(*cases, wait=True)");
  publish<"sending">(module, "(channel, item)");
  publish<"sleep">(module, "(seconds)");
  publish<"start">(module, "()");
  publish<"to_thread">(module, "(function, /, *args, **kwargs)");
  publish<"wait_readable">(module, "(file, timeout=None)");
  publish<"wait_writable">(module, "(file, timeout=None)");
  publish<"writable">(module, "(file)");
  publish<"yield_now">(module, "()");
}

}  // namespace weft::python
