// What weft.leaks is made of: a trial that takes its levels itself, and censuses.
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "python.hpp"
#include "weft/detail/heap.hpp"
#include "weft/detail/leaks.hpp"
#include "weft/fiber.hpp"
#include "weft/timeout.hpp"

namespace weft::python {

namespace {

detail::InterpreterLevels interpreter_levels() {
  detail::InterpreterLevels levels;
  PyObject* const ask = PySys_GetObject("getallocatedblocks");
  if (!ask) raise_error(PyExc_RuntimeError, "sys.getallocatedblocks is missing");
  levels.blocks = nb::cast<double>(nb::handle(ask)());
  detail::InterpreterHeap heap;
  if (detail::interpreter_heap(heap) == 0) levels.held = static_cast<double>(heap.held);
  return levels;
}

class LeakTrial {
 public:
  LeakTrial(uint64_t times, int runs, double seconds, double memory, const std::vector<double>& tolerance) {
    limits_ = {times, runs, seconds, memory, {}};
    std::copy_n(tolerance.begin(), std::min(tolerance.size(), detail::kLeakMetrics),
                limits_.tolerance.begin());
    int error;
    {
      // It may wait for the loader, in which another thread's constructor may wait for the GIL.
      const Released others_run;
      error = detail::begin_leak_watch();
    }
    if (error == ENOMEM) throw std::bad_alloc();
    if (error == EXDEV) raise_error(PyExc_NotImplementedError, detail::heap_refusal());
    counting_ = watching_ = error == 0;
  }
  LeakTrial(const LeakTrial&) = delete;
  LeakTrial& operator=(const LeakTrial&) = delete;
  ~LeakTrial() { close(); }

  // Ends the watch; what was found stays.
  void close() {
    if (std::exchange(watching_, false)) detail::end_leak_watch();
  }

  void start() {
    trial_.reset(detail::make_leak_trial(limits_));
    if (!trial_) throw std::bad_alloc();
    detail::start_leak_trial(*trial_, levels());
  }
  uint64_t next_calls() const { return detail::next_leak_calls(get()); }
  bool add(uint64_t calls, double calling, double seconds) {
    verdict_ = detail::add_leak_run(get(), calls, calling, seconds, levels());
    return verdict_ == detail::LeakVerdict::kUndecided;
  }
  bool leaks() const { return verdict_ == detail::LeakVerdict::kLeaks; }
  bool counting() const { return counting_; }
  bool watching() const { return watching_; }
  bool cut_short() const { return detail::leak_trial_was_cut_short(get()); }
  int runs() const { return detail::leak_runs(get()); }
  uint64_t calls() const { return detail::leak_calls(get()); }
  std::tuple<double, double, double, bool> growth(int metric) const {
    if (metric < 0 || metric >= static_cast<int>(detail::kLeakMetrics)) throw nb::index_error();
    const auto growth = detail::leak_growth(get(), static_cast<detail::LeakMetric>(metric));
    return {growth.estimate, growth.low, growth.high, growth.leaks};
  }
  std::string line(int run) const {
    if (run < 1 || run > runs()) throw nb::index_error();
    return detail::leak_text(
        [&](char* text, size_t room) { return detail::leak_run_line(get(), run, text, room); });
  }
  std::string table() const {
    return detail::leak_text([&](char* text, size_t room) { return detail::leak_table(get(), text, room); });
  }
  uint64_t search_calls() const { return detail::leak_search_calls(get()); }
  std::string svg(const std::string& title) const {
    return detail::leak_text(
        [&](char* text, size_t room) { return detail::leak_growth_svg(get(), title.c_str(), text, room); });
  }

 private:
  struct Drop {
    void operator()(detail::LeakTrial* trial) const noexcept { detail::drop_leak_trial(trial); }
  };

  detail::LeakLevels levels() const {
    const detail::InterpreterLevels interpreter = interpreter_levels();
    detail::LeakLevels levels;
    const Released others_run;
    bool released;
    detail::heap_trim(released);
    detail::take_leak_levels(levels, counting_, interpreter);
    return levels;
  }
  detail::LeakTrial& get() const {
    if (!trial_) raise_error(PyExc_RuntimeError, "the trial has not been started");
    return *trial_;
  }

  detail::LeakLimits limits_;
  bool counting_ = false, watching_ = false;
  detail::LeakVerdict verdict_ = detail::LeakVerdict::kUndecided;
  std::unique_ptr<detail::LeakTrial, Drop> trial_;
};

// Calls functions, and tells of one that does not return: first standard error, then `late`, once the GIL can
// be had.
class LeakCaller {
 public:
  LeakCaller(double seconds, std::string text, nb::callable late)
      : limit_(detail::leak_limit(seconds)), text_(std::move(text)), late_(std::move(late)), pid_(getpid()) {
    alarm_ = detail::start_leak_alarm(limit_, &LeakCaller::tell, this);
  }
  LeakCaller(const LeakCaller&) = delete;
  LeakCaller& operator=(const LeakCaller&) = delete;
  ~LeakCaller() { close(); }

  void close() {
    detail::LeakAlarm* const alarm = std::exchange(alarm_, nullptr);
    if (!alarm || getpid() != pid_) return;
    const Released it_may_need_the_gil;
    detail::stop_leak_alarm(alarm);
  }
  void call(nb::handle function, uint64_t times) {
    for (uint64_t i = 0; i < times; ++i) {
      detail::touch_leak_alarm(alarm_);
      PyObject* const result =
          detail::in_fiber() ? call_in_fiber(function) : PyObject_CallNoArgs(function.ptr());
      detail::touch_leak_alarm(alarm_);
      if (!result) throw nb::python_error();
      Py_DECREF(result);
    }
  }
  bool late() const { return is_late_; }
  // A call raised after its time was up, in a fiber, where waits end then.
  bool expired() const { return expired_; }

 private:
  PyObject* call_in_fiber(nb::handle function) {
    const Nanos deadline = detail::deadline_after(std::chrono::nanoseconds(limit_));
    const Nanos former = detail::push_expiry(deadline);
    PyObject* const result = PyObject_CallNoArgs(function.ptr());
    detail::pop_expiry(former);
    expired_ = !result && detail::now() >= deadline;
    return result;
  }
  static void tell(void* who) {
    auto& self = *static_cast<LeakCaller*>(who);
    self.is_late_ = true;
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, self.text_.data(), self.text_.size());
    const nb::gil_scoped_acquire gil;
    try {
      self.late_();
    } catch (nb::python_error& error) {
      error.discard_as_unraisable("a leak test's alarm");
    }
  }

  const Nanos limit_;
  const std::string text_;
  const nb::callable late_;
  const pid_t pid_;
  std::atomic<bool> is_late_{false};
  bool expired_ = false;
  detail::LeakAlarm* alarm_;
};

class LeakCensus {
 public:
  explicit LeakCensus(uint32_t resources) : LeakCensus(detail::take_leak_census(resources)) {}
  explicit LeakCensus(detail::LeakCensus* census) : census_(census) {
    if (!census) raise_errno(errno);
  }

  size_t count(int resource) const { return detail::leak_census_count(*census_, resource_of(resource)); }
  // (number, path, text) of each thing that `before` has not.
  std::vector<std::tuple<int64_t, nb::str, nb::str>> fresh(const LeakCensus& before, int resource) const {
    std::vector<std::tuple<int64_t, nb::str, nb::str>> all;
    detail::visit_new_things(*before.census_, *census_, resource_of(resource), &all,
                             [](void* who, const detail::LeakThing& thing) {
                               static_cast<decltype(all)*>(who)->emplace_back(
                                   thing.number, name_of(thing.path), name_of(thing.text));
                             });
    return all;
  }
  LeakCensus* settled(double seconds) const {
    const Nanos limit = static_cast<Nanos>(seconds * 1e9);
    detail::LeakCensus* later;
    int error;
    {
      Released released;
      later = detail::settle_leak_census(*census_, limit);
      error = errno;
    }
    if (!later) raise_errno(error);
    return new LeakCensus(later);
  }

 private:
  struct Drop {
    void operator()(detail::LeakCensus* census) const noexcept { detail::drop_leak_census(census); }
  };

  // Of files: any bytes, as os.fsdecode() has them.
  static nb::str name_of(const char* text) {
    PyObject* const decoded = PyUnicode_DecodeFSDefault(text);
    if (!decoded) throw nb::python_error();
    return nb::steal<nb::str>(decoded);
  }
  static detail::LeakResource resource_of(int number) {
    if (number < 0 || number >= static_cast<int>(detail::kLeakResources)) throw nb::index_error();
    return static_cast<detail::LeakResource>(number);
  }

  std::unique_ptr<detail::LeakCensus, Drop> census_;
};

}  // namespace

void add_leaks(nb::module_& module) {
  nb::class_<LeakTrial>(module, "_LeakTrial")
      .def(nb::init<uint64_t, int, double, double, const std::vector<double>&>(), nb::arg("times"),
           nb::arg("runs"), nb::arg("seconds"), nb::arg("memory"), nb::arg("tolerance"))
      .def("start", &LeakTrial::start)
      .def("next_calls", &LeakTrial::next_calls)
      .def("add", &LeakTrial::add, nb::arg("calls"), nb::arg("calling"), nb::arg("seconds"))
      .def("close", &LeakTrial::close)
      .def_prop_ro("leaks", &LeakTrial::leaks)
      .def_prop_ro("counting", &LeakTrial::counting)
      .def_prop_ro("watching", &LeakTrial::watching)
      .def_prop_ro("cut_short", &LeakTrial::cut_short)
      .def_prop_ro("runs", &LeakTrial::runs)
      .def_prop_ro("calls", &LeakTrial::calls)
      .def("growth", &LeakTrial::growth, nb::arg("metric"))
      .def("line", &LeakTrial::line, nb::arg("run"))
      .def("table", &LeakTrial::table)
      .def("search_calls", &LeakTrial::search_calls)
      .def("svg", &LeakTrial::svg, nb::arg("title"));
  nb::class_<LeakCaller>(module, "_LeakCaller")
      .def(nb::init<double, std::string, nb::callable>(), nb::arg("seconds"), nb::arg("text"),
           nb::arg("late"),
           nb::sig("def __init__(self, seconds: float, text: str, late: Callable[[], object]) -> None"))
      .def("call", &LeakCaller::call, nb::arg("function"), nb::arg("times") = 1)
      .def("close", &LeakCaller::close)
      .def_prop_ro("late", &LeakCaller::late)
      .def_prop_ro("expired", &LeakCaller::expired);
  // In the thread of that number, when it next runs code of Python.
  module.def(
      "_interrupt_thread",
      [](unsigned long thread) { return PyThreadState_SetAsyncExc(thread, PyExc_KeyboardInterrupt) == 1; },
      nb::arg("thread"));
  module.def("_leak_search_begin", [] { return detail::begin_leak_search() == 0; });
  module.def("_leak_search_mark", &detail::mark_leak_search);
  module.def("_leak_search_end", &detail::end_leak_search);
  module.def(
      "_leak_search_text",
      [](uint64_t calls) {
        std::string text(16384, '\0');
        text.resize(std::min(detail::leak_search_text(calls, text.data(), text.size() + 1), text.size()));
        return text;
      },
      nb::arg("calls"));
  module.attr("_leak_search_runs") = detail::kLeakSearchRuns;
  nb::class_<LeakCensus>(module, "_LeakCensus")
      .def(nb::init<uint32_t>(), nb::arg("resources"))
      .def("count", &LeakCensus::count, nb::arg("resource"))
      .def("fresh", &LeakCensus::fresh, nb::arg("before"), nb::arg("resource"))
      .def("settled", &LeakCensus::settled, nb::rv_policy::take_ownership, nb::arg("seconds"));
}

}  // namespace weft::python
