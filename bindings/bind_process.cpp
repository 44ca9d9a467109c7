// What weft.process is made of: _Child and _Pattern.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <vector>

#include "process_object.hpp"
#include "weft/detail/io.hpp"
#include "weft/process/command.hpp"

namespace weft::python {

namespace {

using detail::ChildScope;
using detail::ChildState;

std::string text_of(nb::handle item) {
  if (!PyBytes_Check(item.ptr())) raise_error(PyExc_TypeError, "weft.process: bytes are expected");
  std::string text(PyBytes_AS_STRING(item.ptr()), static_cast<size_t>(PyBytes_GET_SIZE(item.ptr())));
  if (text.find('\0') != std::string::npos)
    raise_error(PyExc_ValueError, "embedded null byte: neither a command nor its environment may hold one");
  return text;
}

std::vector<std::string> texts_of(nb::handle list) {
  std::vector<std::string> texts;
  for (nb::handle item : list) texts.push_back(text_of(item));
  return texts;
}

std::vector<const char*> pointers_to(const std::vector<std::string>& texts) {
  std::vector<const char*> pointers;
  for (const std::string& text : texts) pointers.push_back(text.c_str());
  pointers.push_back(nullptr);
  return pointers;
}

constexpr const char* kStages[] = {"",
                                   "weft-keeper cannot be started",
                                   "the order for weft-keeper cannot be made",
                                   "no descriptors for the command",
                                   "the command's user or group cannot be set",
                                   "the command's limits cannot be set",
                                   "the command's working directory cannot be entered",
                                   "the command cannot be executed"};

/// One run of a command. When it goes, so does all that is left of the command.
class Child {
 public:
  Child(nb::handle file, nb::handle arguments, nb::handle environment, nb::handle folder,
        std::vector<int> streams, std::vector<std::pair<int, int>> passed, nb::dict options) {
    const std::string file_text = text_of(file);
    const std::vector<std::string> words = texts_of(arguments);
    const std::vector<const char*> word_pointers = pointers_to(words);
    std::vector<std::string> variables;
    if (!environment.is_none()) variables = texts_of(environment);
    const std::vector<const char*> variable_pointers = pointers_to(variables);
    std::string folder_text;
    if (!folder.is_none()) folder_text = text_of(folder);
    std::vector<int> sources, targets;
    for (const auto& [source, target] : passed) {
      sources.push_back(source);
      targets.push_back(target);
    }
    detail::ChildRequest request;
    request.file = file_text.c_str();
    request.arguments = word_pointers.data();
    request.environment = environment.is_none() ? nullptr : variable_pointers.data();
    request.folder = folder.is_none() ? nullptr : folder_text.c_str();
    std::copy_n(streams.begin(), 3, request.streams);
    request.passed = sources.data();
    request.targets = targets.data();
    request.passed_count = sources.size();
    request.mask = option<int64_t>(options, "umask", -1);
    request.user = option<int64_t>(options, "user", -1);
    request.group = option<int64_t>(options, "group", -1);
    request.nice = option<int>(options, "nice", 0);
    request.keep_ignored_signals = option<bool>(options, "keep_ignored_signals", false);
    request.blocked_signals = option<uint64_t>(options, "blocked_signals", 0);
    request.kept_output = option<size_t>(options, "kept_output", request.kept_output);
    std::vector<gid_t> groups = option<std::vector<gid_t>>(options, "groups", {});
    if (options.contains("groups")) {
      request.groups = groups.data() ? groups.data() : &kNoGroup;
      request.group_count = groups.size();
    }
    std::vector<detail::ChildLimit> limits;
    for (const auto& each :
         option<std::vector<std::pair<int, std::pair<uint64_t, uint64_t>>>>(options, "limits", {}))
      limits.push_back({each.first, each.second.first, each.second.second});
    request.limits = limits.data();
    request.limit_count = limits.size();
    start(request, file_text, folder_text, words);
  }
  ~Child() {
    if (!child_) return;
    if (!left_) detail::end_child(child_, SIGKILL, 0);
    detail::close_child_input(child_);
    detail::release_child(child_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  nb::tuple state() const {
    const ChildState state = detail::child_state(child_);
    return nb::make_tuple(
        state.exited ? nb::object(nb::int_(return_code(state.status))) : nb::object(nb::none()), state.gone,
        state.forced, state.lost, state.foreign,
        nb::make_tuple(state.stuck, state.stuck_pid, state.stuck_error));
  }
  pid_t pid() const { return pid_; }
  std::optional<int> poll() const {
    const ChildState state = detail::child_state(child_);
    return state.exited ? std::optional(return_code(state.status)) : std::nullopt;
  }
  bool wait(std::optional<Seconds> timeout) {
    return wait_until([](const ChildState& state) { return state.exited; }, timeout);
  }
  bool wait_gone(std::optional<Seconds> timeout) {
    return wait_until([](const ChildState& state) { return state.gone; }, timeout);
  }
  uint32_t changes() const { return detail::child_changes(child_); }
  bool await_change(uint32_t seen, std::optional<Seconds> timeout) {
    const Nanos deadline = deadline_of(timeout);
    ensure_runtime_on_main();
    return ended(blocking([&] { return detail::await_child(child_, seen, deadline, detail::kCancellable); }));
  }
  void await_listener(const std::string& host, int port, double waited, double longest, Seconds limit) {
    const Nanos deadline = deadline_of(limit), begin = detail::now() - nanos_of(waited);
    Nanos next = detail::now() + detail::probe_pause(nanos_of(waited), nanos_of(longest));
    ensure_runtime_on_main();
    ended(blocking([&] {
      return detail::await_listener(child_, host.c_str(), static_cast<uint16_t>(port), begin,
                                    nanos_of(longest), next, deadline);
    }));
    if (detail::child_state(child_).foreign) raise_errno(ECHILD);
  }
  static void check_signal(int signal) {
    if (signal < 1 || signal > SIGRTMAX) raise_errno(EINVAL);
  }
  void send_signal(int signal, int scope) {
    check_signal(signal);
    if (const int error = detail::signal_child(child_, signal, static_cast<ChildScope>(scope));
        error && error != ESRCH)
      raise_errno(error);
  }
  void end(int signal, double grace) {
    check_signal(signal);
    detail::end_child(child_, signal, static_cast<Nanos>(std::clamp(grace, 0.0, 4e9) * 1e9));
  }

  /// (bytes, position after them, is that all); waits until there is something.
  nb::tuple read(int stream, uint64_t position, size_t size, std::optional<Seconds> timeout) {
    const Nanos deadline = deadline_of(timeout);
    ensure_runtime_on_main();
    nb::object room = nb::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size)));
    if (!room.is_valid()) throw nb::python_error();
    size_t taken = 0;
    bool end = false, timed_out = false;
    for (;;) {
      const uint32_t seen = detail::child_changes(child_);
      taken = detail::read_child(child_, stream, position, PyBytes_AS_STRING(room.ptr()), size, end);
      if (taken || end || size == 0 || timed_out || (timeout && timeout->value <= 0)) break;
      timed_out =
          !ended(blocking([&] { return detail::await_child(child_, seen, deadline, detail::kCancellable); }));
    }
    PyObject* bytes = room.release().ptr();
    if (_PyBytes_Resize(&bytes, static_cast<Py_ssize_t>(taken)) != 0) throw nb::python_error();
    return nb::make_tuple(nb::steal(bytes), position, end);
  }
  std::pair<uint64_t, uint64_t> bounds(int stream) const {
    uint64_t first = 0;
    const uint64_t end = detail::child_output_end(child_, stream, first);
    return {first, end};
  }
  std::string places() const {
    char text[256];
    detail::child_places(child_, text, sizeof text);
    return text;
  }
  bool has_stream(int stream) const { return detail::child_has_stream(child_, stream); }

  /// Writes all of it. Raises BrokenPipeError if nobody reads.
  size_t write(nb::bytes data) {
    ensure_runtime_on_main();
    if (detail::child_input(child_) < 0) raise_error(PyExc_ValueError, "write to closed file");
    size_t written = 0;
    while (written < data.size()) {
      detail::IoResult result{};
      raise_outcome(blocking([&] {
        result = detail::write_child(child_, data.c_str() + written, data.size() - written, detail::kNever);
        if (result.value > 0) written += static_cast<size_t>(result.value);
        return result.outcome;
      }));
      if (result.value < 0) raise_errno(static_cast<int>(-result.value));
    }
    return written;
  }
  int input() const { return detail::child_input(child_); }
  nb::object watch(nb::handle ready) const { return watch_readiness(ready, child_); }
  /// It is being ended, and nobody waits for that: when this goes, nothing more is done.
  void leave() { left_ = true; }
  void close_input() { detail::close_child_input(child_); }

  /// True: found; False: the streams ended without it; None: not in that time.
  std::optional<bool> await_output(const PatternObject& pattern, nb::list positions,
                                   std::optional<Seconds> timeout) {
    const Nanos deadline = deadline_of(timeout);
    ensure_runtime_on_main();
    detail::OutputPositions at{{nb::cast<uint64_t>(positions[0]), nb::cast<uint64_t>(positions[1])}};
    detail::Sought sought{};
    const Outcome outcome = blocking([&] {
      Outcome how;
      sought = detail::await_output(child_, pattern.get(), at, deadline, detail::kCancellable, how);
      return how;
    });
    if (sought == detail::Sought::kNoMemory) throw std::bad_alloc();
    if (sought == detail::Sought::kElsewise && !ended(outcome)) return std::nullopt;
    positions[0] = at.at[0];
    positions[1] = at.at[1];
    return sought == detail::Sought::kFound;
  }

 private:
  static constexpr gid_t kNoGroup = 0;

  template <typename T>
  static T option(const nb::dict& options, const char* name, T otherwise) {
    return options.contains(name) ? nb::cast<T>(options[name]) : otherwise;
  }
  static int return_code(int status) { return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status); }
  /// False: the time passed. Raises for other outcomes.
  static bool ended(Outcome outcome) {
    if (outcome == Outcome::kTimeout) return false;
    raise_outcome(outcome);
    return true;
  }

  void start(const detail::ChildRequest& request, const std::string& file, const std::string& folder,
             const std::vector<std::string>& words) {
    ensure_runtime_on_main();
    detail::ChildFailure failure;
    Outcome outcome = blocking([&] {
      Outcome how;
      child_ = detail::start_child(request, detail::kNever, failure, how);
      return how;
    });
    if (!child_) {
      raise_outcome(outcome);
      nb::object name = nb::steal(PyUnicode_DecodeFSDefault(
          failure.stage == detail::ChildStage::kFolder ? folder.c_str() : file.c_str()));
      nb::object text = nb::steal(PyUnicode_DecodeFSDefault(describe(failure, words).c_str()));
      PyObject* error = PyObject_CallFunction(PyExc_OSError, "iOO", failure.error, text.ptr(), name.ptr());
      if (error) {
        PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error)), error);
        Py_DECREF(error);
      }
      throw nb::python_error();
    }
    pid_ = detail::child_state(child_).pid;
  }
  static std::string describe(const detail::ChildFailure& failure, const std::vector<std::string>& words) {
    std::string text = strerror(failure.error);
    const auto stage = static_cast<size_t>(failure.stage);
    if (stage > 0 && stage < std::size(kStages)) text = std::string(kStages[stage]) + ": " + text;
    if (failure.stage == detail::ChildStage::kKeeper && failure.error == ENOENT)
      text += "; it is neither beside libweft.so nor named by WEFT_KEEPER: install Weft again";
    if (failure.stage == detail::ChildStage::kExecute && failure.error == ENOENT)
      if (const std::string word = process::shell_word(words); !word.empty())
        text += " (if '" + word + "' was meant for a shell: give one text and shell=True" +
                (word.find('=') == std::string::npos ? ")" : ", or the variable by envvars)");
    return text;
  }
  template <typename Done>
  bool wait_until(Done done, std::optional<Seconds> timeout) {
    const Nanos deadline = deadline_of(timeout);
    ensure_runtime_on_main();
    for (;;) {
      const uint32_t seen = detail::child_changes(child_);
      const ChildState state = detail::child_state(child_);
      if (state.foreign) raise_errno(ECHILD);
      if (done(state)) return true;
      if (!ended(blocking([&] { return detail::await_child(child_, seen, deadline, detail::kCancellable); })))
        return false;
    }
  }

  detail::Child* child_ = nullptr;
  pid_t pid_ = -1;
  bool left_ = false;
};

}  // namespace

PatternObject::PatternObject(nb::bytes text, uint32_t flags) {
  char what[256] = "";
  size_t where = 0;
  pattern_ = detail::compile_pattern(text.c_str(), text.size(), flags, what, sizeof what, where);
  if (pattern_) return;
  PyErr_Format(PyExc_ValueError, "%s at position %zu of the pattern %R", what, where, text.ptr());
  throw nb::python_error();
}

void add_processes(nb::module_& module) {
  nb::class_<PatternObject>(module, "_Pattern")
      .def(nb::init<nb::bytes, uint32_t>(), nb::arg("text"), nb::arg("flags") = 0);
  nb::class_<Child>(module, "_Child")
      .def(nb::init<nb::handle, nb::handle, nb::handle, nb::handle, std::vector<int>,
                    std::vector<std::pair<int, int>>, nb::dict>(),
           nb::arg("file"), nb::arg("arguments"), nb::arg("environment").none(), nb::arg("folder").none(),
           nb::arg("streams"), nb::arg("passed"), nb::arg("options"),
           nb::sig("def __init__(self, file: bytes, arguments: list[bytes], environment: list[bytes] | None, "
                   "folder: bytes | None, streams: list[int], passed: list[tuple[int, int]], "
                   "options: dict[str, Any]) -> None"))
      .def_prop_ro("pid", &Child::pid)
      .def_prop_ro("state", &Child::state,
                   nb::for_getter(nb::sig(
                       "def state(self) -> tuple[int, bool, bool, bool, bool, tuple[int, int, int]]")))
      .def_prop_ro("changes", &Child::changes)
      .def_prop_ro("input", &Child::input)
      .def("poll", &Child::poll)
      .def("wait", &Child::wait, nb::arg("timeout") = nb::none())
      .def("wait_gone", &Child::wait_gone, nb::arg("timeout") = nb::none())
      .def("await_change", &Child::await_change, nb::arg("seen"), nb::arg("timeout") = nb::none())
      .def("await_listener", &Child::await_listener, nb::arg("host"), nb::arg("port"), nb::arg("waited"),
           nb::arg("longest"), nb::arg("limit"))
      .def("send_signal", &Child::send_signal, nb::arg("signal"), nb::arg("scope"))
      .def("end", &Child::end, nb::arg("signal"), nb::arg("grace"))
      .def("read", &Child::read, nb::arg("stream"), nb::arg("position"), nb::arg("size"),
           nb::arg("timeout") = nb::none(),
           nb::sig("def read(self, stream: int, position: int, size: int, timeout: float | None = None) -> "
                   "tuple[bytes, int, bool]"))
      .def("bounds", &Child::bounds, nb::arg("stream"))
      .def("places", &Child::places)
      .def("has_stream", &Child::has_stream, nb::arg("stream"))
      .def("write", &Child::write, nb::arg("data"))
      .def("watch", &Child::watch, nb::arg("ready"), nb::keep_alive<0, 1>(),
           nb::sig("def watch(self, ready: Ready) -> _ReadyWatch"))
      .def("leave", &Child::leave)
      .def("close_input", &Child::close_input)
      .def("await_output", &Child::await_output, nb::arg("pattern"), nb::arg("positions"),
           nb::arg("timeout") = nb::none(),
           nb::sig("def await_output(self, pattern: _Pattern, positions: list[int], timeout: float | None = "
                   "None) -> "
                   "bool | None"));
  add_readiness(module);
  add_probes(module);
}

}  // namespace weft::python
