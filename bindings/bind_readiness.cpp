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

/// A function of Python's that C++ calls, and lets go, wherever it is.
std::function<bool()> callable(nb::object function) {
  const std::shared_ptr<nb::object> held(new nb::object(std::move(function)),
                                         [](nb::object* object) { apart([&] { delete object; }); });
  return [held] {
    std::exception_ptr error;
    const bool truth = sheltered([&] {
      nb::gil_scoped_acquire gil;
      try {
        const int answer = PyObject_IsTrue((*held)().ptr());
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
  ReadyWatch(const Readiness& ready, detail::Child* child)
      : ready_(ready), watch_(ready_.condition()->watch(child)) {}
  bool look(double limit) {
    process::detail::Round round{static_cast<Nanos>(std::clamp(limit, 0.0, 9e9) * 1e9), true};
    bool is = false;
    call_waiting([&] { is = watch_->look(round); });
    return is;
  }
  std::string seen() const { return watch_->seen(); }
  bool hopeless() const { return watch_->hopeless(); }

 private:
  Readiness ready_;  // before what refers to it
  std::unique_ptr<process::detail::Watch> watch_;
};

std::vector<Readiness> parts_of(nb::args parts) {
  for (nb::handle part : parts)
    if (!nb::isinstance<Readiness>(part)) {
      PyErr_Format(
          PyExc_TypeError,
          "Ready.all() and any() take what Ready's functions return, each as an argument, and not %R",
          part.ptr());
      throw nb::python_error();
    }
  return nb::cast<std::vector<Readiness>>(nb::list(parts));
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
  return nb::cast(new ReadyWatch(nb::cast<const Readiness&>(ready), child), nb::rv_policy::take_ownership);
}

void add_readiness(nb::module_& module) {
  nb::class_<ReadyWatch>(module, "_ReadyWatch")
      .def("look", &ReadyWatch::look, nb::arg("limit"))
      .def_prop_ro("seen", &ReadyWatch::seen)
      .def_prop_ro("hopeless", &ReadyWatch::hopeless);
  nb::class_<Readiness>(
      module, "Ready",
      "When a command is ready: for ReadinessExecutor. Made by its static functions, none of which "
      "waits; ValueError: an argument is wrong.")
      .def_static("tcp", &Readiness::tcp, nb::arg("host"), nb::arg("port"),
                  "Something accepts connections at that port, 1 to 65535.")
      .def_static("unix_socket", &Readiness::unix_socket, nb::arg("path"),
                  "Something accepts connections at that Unix socket; a name that begins with @ is abstract.")
      .def_static(
          "http",
          [](std::string url, std::string method, std::string status,
             std::vector<std::pair<std::string, std::string>> headers, std::string body, bool redirects,
             bool verify, std::string ca_file) {
            return Readiness::http(std::move(url),
                                   http_options(std::move(method), std::move(status), std::move(headers),
                                                std::move(body), redirects, verify, std::move(ca_file)));
          },
          nb::arg("url"), nb::kw_only(), nb::arg("method") = "GET", nb::arg("status") = "^2[0-9][0-9]$",
          nb::arg("headers") = std::vector<std::pair<std::string, std::string>>(), nb::arg("body") = "",
          nb::arg("redirects") = false, nb::arg("verify") = true, nb::arg("ca_file") = "",
          nb::sig("def http(url: str, *, method: str = 'GET', status: str = '^2[0-9][0-9]$', "
                  "headers: Sequence[tuple[str, str]] = (), body: str = '', redirects: bool = False, "
                  "verify: bool = True, ca_file: str = '') -> Ready"),
          "A request is answered with a status that the regular expression matches.")
      .def_static(
          "output", [](std::string pattern) { return Readiness::output(std::move(pattern)); },
          nb::arg("pattern"),
          "The command has written what the regular expression matches. What was written can still be read.")
      .def_static("file", &Readiness::file, nb::arg("path"), "There is such a file.")
      .def_static(
          "custom",
          [](nb::callable function, std::string name) {
            return Readiness::custom(callable(std::move(function)), std::move(name));
          },
          nb::arg("function"), nb::arg("name") = "a function",
          nb::sig("def custom(function: Callable[[], object], name: str = 'a function') -> Ready"),
          "The function returns what is true. Called again and again, by who starts the command.")
      .def_static(
          "all", [](nb::args parts) { return Readiness::all(parts_of(parts)); }, nb::arg("parts"),
          nb::sig("def all(*parts: Ready) -> Ready"), "Each of them has been so once.")
      .def_static(
          "any", [](nb::args parts) { return Readiness::any(parts_of(parts)); }, nb::arg("parts"),
          nb::sig("def any(*parts: Ready) -> Ready"), "One of them is so.")
      .def(
          "present",
          [](const Readiness& self) {
            std::string there;
            call_waiting([&] { there = self.condition()->present(); });
            return there;
          },
          "What is there already, before anything was started; empty: nothing.")
      .def_prop_ro("needs_output", [](const Readiness& self) { return self.condition()->needs_output(); })
      .def("__repr__",
           [](const Readiness& self) { return "<weft.process.Ready: " + self.condition()->name() + ">"; });
}

}  // namespace weft::python
