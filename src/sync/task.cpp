#include "weft/detail/task.hpp"

#include <cxxabi.h>
#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "fiber/assert.hpp"
#include "runtime/runtime.hpp"
#include "sync/wake.hpp"
#include "weft/fiber.hpp"

namespace weft::detail {

namespace {

engine::Fiber* block(void* fiber) noexcept {
  return static_cast<engine::Fiber*>(fiber);
}

constinit std::atomic<UnhandledHandler> g_unhandled{nullptr};

}  // namespace

int Task::start(const TaskOptions& options) noexcept {
  engine::Runtime* runtime = engine::Runtime::get();
  if (!runtime && !(runtime = engine::Runtime::start(engine::Settings{}))) return errno;
  if (options.carrier >= runtime->carriers()) return EINVAL;
  if (options.name_length > 0) {
    name_ = strndup(options.name, options.name_length);
    if (!name_) return ENOMEM;
  }
  engine::Fiber* fiber = runtime->create_fiber(&enter, this, options.stack_size);
  if (!fiber) return errno;
  if (name_) fiber->set_name(name_);
  fiber->task = this;
  fiber_ = fiber;
  id_ = fiber->id();
  site_ = options.site;
  static const int registered = pthread_atfork(nullptr, nullptr, &lose_all);
  static_cast<void>(registered);
  retain();
  if (options.carrier < 0) {
    runtime->start(*fiber);
  } else if (!runtime->carrier(options.carrier).start(*fiber)) {  // it is about to end
    fiber->task = nullptr;
    release();
    return EINVAL;
  }
  return 0;
}

// In a fork child. After the engine's own part, which was registered first.
void Task::lose_all() noexcept {
  engine::Fiber::for_each([](engine::Fiber& fiber) {
    auto* task = static_cast<Task*>(fiber.task);
    if (!task || !fiber.done() || task->done()) return;
    task->end = End::kCancelled;
    task->lose();
  });
}

// Not noexcept: an interpreter ends the threads of its daemons by unwinding them.
void* Task::enter(void* self) {
  auto& task = *static_cast<Task*>(self);
  task.run_(task);
  WEFT_ASSERT(task.done());
  // It is still this fiber's in the eyes of a callback, but not of what a thread-specific destructor asks.
  block(task.fiber_)->task = nullptr;
  task.release();
  return nullptr;
}

Task* Task::current() noexcept {
  const engine::Fiber* fiber = engine::Carrier::running_fiber();
  return fiber ? static_cast<Task*>(fiber->task) : nullptr;
}

Outcome Task::join(Nanos deadline, uint8_t flags) noexcept {
  if (this == current()) return Outcome::kSelf;
  return wait(deadline, flags, "join");
}

void Task::cancel() noexcept {
  block(fiber_)->cancel();
}
bool Task::cancel_requested() const noexcept {
  return block(fiber_)->cancel_requested();
}

void Task::dispose() noexcept {
  if (fiber_) block(fiber_)->release();
  free(name_);
}

namespace {

// A mangled type, readable; as it is if it cannot be.
class Readable {
 public:
  explicit Readable(const char* type) noexcept : type_(type) {
    int status = 0;
    if (type) text_ = abi::__cxa_demangle(type, nullptr, nullptr, &status);
  }
  ~Readable() { free(text_); }
  Readable(const Readable&) = delete;
  Readable& operator=(const Readable&) = delete;
  const char* text() const noexcept { return text_ ? text_ : type_ ? type_ : "exception"; }

 private:
  const char* type_;
  char* text_ = nullptr;
};

[[gnu::format(printf, 1, 2)]] void write_line(const char* format, ...) noexcept {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  length = std::clamp(length, 0, static_cast<int>(sizeof text) - 2);
  text[length++] = '\n';
  engine::sys::call(SYS_write, 2, text, length);
}

}  // namespace

void report_unhandled(const Task& task, const char* type, const char* what) noexcept {
  const Site& site = task.site();
  if (UnhandledHandler handler = g_unhandled.load(std::memory_order_acquire))
    return handler(
        {task.name(), task.id(), site.file, site.line, site.function, type ? type : "", what ? what : ""});
  const char* name = task.name();
  write_line("weft: unhandled %s in fiber %s%s%s(id %llu), spawned at %s:%u%s%s", Readable(type).text(),
             *name ? "'" : "", name, *name ? "' " : "", static_cast<unsigned long long>(task.id()), site.file,
             site.line, what && *what ? ": " : "", what ? what : "");
}

void report_failed_actor(const char* name, const char* actor_type, const char* type,
                         const char* what) noexcept {
  if (UnhandledHandler handler = g_unhandled.load(std::memory_order_acquire)) {
    const Task* task = Task::current();
    return handler({name, task ? task->id() : 0, "", 0, "", type ? type : "", what ? what : ""});
  }
  write_line("weft: unhandled %s in actor %s%s%s(%s)%s%s", Readable(type).text(), *name ? "'" : "", name,
             *name ? "' " : "", Readable(actor_type).text(), what && *what ? ": " : "", what ? what : "");
}

}  // namespace weft::detail

namespace weft {

UnhandledHandler set_unhandled_handler(UnhandledHandler handler) noexcept {
  return detail::g_unhandled.exchange(handler, std::memory_order_acq_rel);
}

}  // namespace weft
