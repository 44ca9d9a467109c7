// weft.process.Ready: when a command is ready.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "actor_object.hpp"
#include "process_object.hpp"
#include "weft/process/readiness.hpp"

namespace weft::python {

namespace {

using process::Readiness;

/// Calls `function`, which may wait, without the GIL; its exceptions become Python's.
template <typename F>
void call_waiting(F&& function) {
  ensure_runtime_on_main();
  try {
    raise_outcome(blocking([&] {
      try {
        function();
      } catch (const Cancelled&) {
        return Outcome::kCancelled;
      } catch (const Timeout&) {
        return Outcome::kExpired;
      }
      return Outcome::kReady;
    }));
  } catch (const std::system_error& error) {
    raise_errno(error.code().value());
  }
}

/// A condition, with the functions of Python's that it calls. Each who may have those called has references
/// of its own to them, which the collector sees: what makes a condition of its own methods is a ring.
struct ReadyObject {
  Readiness readiness;
  std::vector<nb::object> functions;

  int traverse(visitproc visit, void* arg) const {
    for (const nb::object& function : functions) Py_VISIT(function.ptr());
    return 0;
  }
};

/// A function of Python's that C++ calls wherever it is. REQUIRES: whoever may have it called keeps it.
std::function<bool()> callable(PyObject* function) {
  return [function] {
    std::exception_ptr error;
    const bool truth = sheltered([&] {
      nb::gil_scoped_acquire gil;
      try {
        const int answer = PyObject_IsTrue(nb::borrow(function)().ptr());
        if (answer < 0) throw nb::python_error();
        return answer == 1;
      } catch (const nb::python_error&) {
        error = std::current_exception();
        return false;
      }
    });
    if (error) std::rethrow_exception(error);
    return truth;
  };
}

/// One start's view.
class ReadyWatch {
 public:
  ReadyWatch(const ReadyObject& ready, detail::Child* child)
      : ready_(ready), watch_(ready_.readiness.condition()->watch(child)) {}
  bool look(double limit) {
    process::detail::Round round{static_cast<Nanos>(std::clamp(limit, 0.0, 9e9) * 1e9), true};
    bool is = false;
    call_waiting([&] { is = watch_->look(round); });
    return is;
  }
  std::string seen() const { return watch_->seen(); }
  bool hopeless() const { return watch_->hopeless(); }
  int traverse(visitproc visit, void* arg) const { return ready_.traverse(visit, arg); }
  void clear() { ready_.functions.clear(); }

 private:
  ReadyObject ready_;  // before what refers to it
  std::unique_ptr<process::detail::Watch> watch_;
};

template <typename T>
int traverse_instance(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  return nb::inst_ready(self) ? nb::inst_ptr<T>(self)->traverse(visit, arg) : 0;
}

// No code of Python's runs with them after this, which is for what nobody can reach.
PyType_Slot g_ready_slots[] = {{Py_tp_traverse, reinterpret_cast<void*>(&traverse_instance<ReadyObject>)},
                               {Py_tp_clear, reinterpret_cast<void*>(+[](PyObject* self) -> int {
                                  if (nb::inst_ready(self))
                                    nb::inst_ptr<ReadyObject>(self)->functions.clear();
                                  return 0;
                                })},
                               {0, nullptr}};
PyType_Slot g_watch_slots[] = {{Py_tp_traverse, reinterpret_cast<void*>(&traverse_instance<ReadyWatch>)},
                               {Py_tp_clear, reinterpret_cast<void*>(+[](PyObject* self) -> int {
                                  if (nb::inst_ready(self)) nb::inst_ptr<ReadyWatch>(self)->clear();
                                  return 0;
                                })},
                               {0, nullptr}};

/// Of several: `combine` is Readiness::all or any.
ReadyObject combined(nb::args parts, Readiness (*combine)(std::vector<Readiness>)) {
  std::vector<Readiness> conditions;
  std::vector<nb::object> functions;
  for (nb::handle part : parts) {
    if (!nb::isinstance<ReadyObject>(part)) {
      PyErr_Format(
          PyExc_TypeError,
          "Ready.all() and any() take what Ready's functions return, each as an argument, and not %R",
          part.ptr());
      throw nb::python_error();
    }
    const auto& one = nb::cast<const ReadyObject&>(part);
    conditions.push_back(one.readiness);
    functions.insert(functions.end(), one.functions.begin(), one.functions.end());
  }
  return {combine(std::move(conditions)), std::move(functions)};
}

process::HttpOptions http_options(std::string method, std::string status,
                                  std::vector<std::pair<std::string, std::string>> headers, std::string body,
                                  bool redirects, bool verify, std::string ca_file) {
  process::HttpOptions options;
  options.method = std::move(method);
  options.status = std::move(status);
  options.headers = std::move(headers);
  options.body = std::move(body);
  options.follow_redirects = redirects;
  options.verify = verify;
  options.ca_file = std::move(ca_file);
  return options;
}

}  // namespace

nb::object watch_readiness(nb::handle ready, detail::Child* child) {
  return nb::cast(new ReadyWatch(nb::cast<const ReadyObject&>(ready), child), nb::rv_policy::take_ownership);
}

void add_readiness(nb::module_& module) {
  nb::class_<ReadyWatch>(module, "_ReadyWatch", nb::type_slots(g_watch_slots))
      .def("look", &ReadyWatch::look, nb::arg("limit"))
      .def_prop_ro("seen", &ReadyWatch::seen)
      .def_prop_ro("hopeless", &ReadyWatch::hopeless);
  nb::class_<ReadyObject>(
      module, "Ready", nb::type_slots(g_ready_slots),
      "When a command is ready: for ReadinessExecutor. Made by its static functions, none of which "
      "waits; ValueError: an argument is wrong.")
      .def_static(
          "tcp",
          [](std::string host, int port) {
            return ReadyObject{Readiness::tcp(std::move(host), port), {}};
          },
          nb::arg("host"), nb::arg("port"), "Something accepts connections at that port, 1 to 65535.")
      .def_static(
          "unix_socket",
          [](std::string path) {
            return ReadyObject{Readiness::unix_socket(std::move(path)), {}};
          },
          nb::arg("path"),
          "Something accepts connections at that Unix socket; a name that begins with @ is abstract.")
      .def_static(
          "http",
          [](std::string url, std::string method, std::string status,
             std::vector<std::pair<std::string, std::string>> headers, std::string body, bool redirects,
             bool verify, std::string ca_file) {
            return ReadyObject{
                Readiness::http(std::move(url),
                                http_options(std::move(method), std::move(status), std::move(headers),
                                             std::move(body), redirects, verify, std::move(ca_file))),
                {}};
          },
          nb::arg("url"), nb::kw_only(), nb::arg("method") = "GET", nb::arg("status") = "^2[0-9][0-9]$",
          nb::arg("headers") = std::vector<std::pair<std::string, std::string>>(), nb::arg("body") = "",
          nb::arg("redirects") = false, nb::arg("verify") = true, nb::arg("ca_file") = "",
          nb::sig("def http(url: str, *, method: str = 'GET', status: str = '^2[0-9][0-9]$', "
                  "headers: Sequence[tuple[str, str]] = (), body: str = '', redirects: bool = False, "
                  "verify: bool = True, ca_file: str = '') -> Ready"),
          "A request is answered with a status that the regular expression matches.")
      .def_static(
          "output",
          [](std::string pattern) {
            return ReadyObject{Readiness::output(std::move(pattern)), {}};
          },
          nb::arg("pattern"),
          "The command has written what the regular expression matches. What was written can still be read.")
      .def_static(
          "file",
          [](std::string path) {
            return ReadyObject{Readiness::file(std::move(path)), {}};
          },
          nb::arg("path"), "There is such a file.")
      .def_static(
          "custom",
          [](nb::callable function, std::string name) {
            return ReadyObject{Readiness::custom(callable(function.ptr()), std::move(name)), {function}};
          },
          nb::arg("function"), nb::arg("name") = "a function",
          nb::sig("def custom(function: Callable[[], object], name: str = 'a function') -> Ready"),
          "The function returns what is true. Called again and again, by who starts the command.")
      .def_static(
          "all", [](nb::args parts) { return combined(parts, &Readiness::all); }, nb::arg("parts"),
          nb::sig("def all(*parts: Ready) -> Ready"), "Each of them has been so once.")
      .def_static(
          "any", [](nb::args parts) { return combined(parts, &Readiness::any); }, nb::arg("parts"),
          nb::sig("def any(*parts: Ready) -> Ready"), "One of them is so.")
      .def(
          "present",
          [](const ReadyObject& self) {
            std::string there;
            call_waiting([&] { there = self.readiness.condition()->present(); });
            return there;
          },
          "What is there already, before anything was started; empty: nothing.")
      .def_prop_ro("needs_output",
                   [](const ReadyObject& self) { return self.readiness.condition()->needs_output(); })
      .def("__repr__", [](const ReadyObject& self) {
        return "<weft.process.Ready: " + self.readiness.condition()->name() + ">";
      });
}

}  // namespace weft::python
