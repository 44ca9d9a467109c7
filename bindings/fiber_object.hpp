// weft.Fiber: the Python object of a fiber that was spawned.
#pragma once

#include "python.hpp"
#include "weft/detail/task.hpp"

namespace weft::python {

class FiberObject;

/// Native part; lives as long as anybody has the fiber, object or not.
class PythonTask final : public detail::Task {
 public:
  explicit PythonTask(FiberObject* object) noexcept : Task(&run, &destroy), object_(object) {}

  /// `task` if it is of this kind, else null.
  static PythonTask* of(Task& task) noexcept {
    return task.runs(&run) ? static_cast<PythonTask*>(&task) : nullptr;
  }
  FiberObject* object() const noexcept { return object_; }

 private:
  static void run(Task& self);
  static void destroy(Completion& self) noexcept {
    auto* task = static_cast<PythonTask*>(&self);
    task->dispose();
    delete task;
  }

  FiberObject* object_;  // with a reference of the fiber's own, until it has run
};

/// A nanobind instance; all of it is guarded by the GIL.
class FiberObject {
 public:
  FiberObject() = default;
  ~FiberObject();
  FiberObject(const FiberObject&) = delete;
  FiberObject& operator=(const FiberObject&) = delete;

  PythonTask& task() const noexcept { return *task_; }
  PyObject* self() const noexcept { return self_; }

  void join(std::optional<Seconds> timeout);
  nb::object result(std::optional<Seconds> timeout);
  nb::object exception(std::optional<Seconds> timeout);
  bool cancel();
  bool cancelled() const noexcept {
    return cancelled_ || (task().done() && task().end == detail::Task::End::kCancelled);
  }
  void add_done_callback(nb::object function);
  std::string repr() const;
  std::string name() const;
  std::string spawn_site() const;

  /// At its end, before anything that it has is let go: tells of a failure that nobody asked for.
  void report_if_unobserved() noexcept;
  int traverse(visitproc visit, void* argument);
  void clear();

  /// Has its failure appended to `list` when it ends, and not reported otherwise.
  void report_to(nb::list list);
  static nb::object spawn_with(nb::handle function, nb::handle arguments, nb::handle keywords);
  static PyObject* spawn(PyObject* module, PyObject* const* arguments, Py_ssize_t count, PyObject* names);

 private:
  friend class PythonTask;

  void wait(std::optional<Seconds> timeout);
  void note_site();
  void execute();
  void call_back() noexcept;
  PyObject* exception_ = nullptr;
  PyObject* traceback_ = nullptr;  // of the exception, as of the fiber's end; or null
  PyObject* result_ = nullptr;
  PyObject* callable_ = nullptr;
  PyObject* arguments_ = nullptr;  // a tuple
  PyObject* keywords_ = nullptr;   // a dictionary or null
  PyObject* context_ = nullptr;
  PyObject* callbacks_ = nullptr;  // a list or null
  PyObject* failures_ = nullptr;   // of its group; or null
  PyObject* code_ = nullptr;       // of who spawned it
  int line_ = 0;
  bool observed_ = false;
  bool cancelled_ = false;
  PyObject* self_ = nullptr;  // borrowed
  detail::Ref<PythonTask> task_;
};

}  // namespace weft::python
