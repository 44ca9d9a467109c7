// Task: what a spawned fiber runs, and what is known of it.
#pragma once

#include "weft/detail/completion.hpp"

namespace weft::detail {

/// Where in the source something was asked for. The strings have static storage.
struct Site {
  const char* file = "";
  const char* function = "";
  uint32_t line = 0;
};

/// See SpawnOptions.
struct TaskOptions {
  const char* name = "";
  size_t name_length = 0;
  size_t stack_size = 0;
  int carrier = -1;
  Site site;
};

class Task : public Completion {
 public:
  using Run = void (*)(Task& self);

  Task(Run run, Destroy destroy) noexcept : Completion(destroy), run_(run) {}

  enum class End : uint8_t { kReturned, kThrew, kCancelled };
  /// How it ended; set by run() before complete().
  End end = End::kReturned;

  /// Tells what kind it is.
  bool runs(Run run) const noexcept { return run_ == run; }

  /// Makes a fiber that will call run(*this), which ends by complete(). Starts the runtime on the calling
  /// thread if there is none. Returns 0 or an errno: EINVAL: there is no such carrier; ENOMEM; or why the
  /// runtime cannot start. The fiber has a reference of its own.
  WEFT_API int start(const TaskOptions& options) noexcept;

  /// The task of the calling fiber; null where it has none (main fibers, fibers that stand for threads).
  WEFT_API static Task* current() noexcept;

  /// Waits for its end. kSelf if the caller is that fiber itself.
  WEFT_API Outcome join(Nanos deadline, uint8_t flags) noexcept;
  /// Asks the fiber to end; nothing if it has. Any thread.
  WEFT_API void cancel() noexcept;
  WEFT_API bool cancel_requested() const noexcept;
  WEFT_API uint64_t id() const noexcept { return id_; }
  /// Its whole name, as given; "" if none was.
  const char* name() const noexcept { return name_ ? name_ : ""; }
  const Site& site() const noexcept { return site_; }

  /// For the destructor of what derives from it: gives back what start() took.
  WEFT_API void dispose() noexcept;

 protected:
  ~Task() = default;

 private:
  static void* enter(void* self);
  static void lose_all() noexcept;

  Run run_;
  void* fiber_ = nullptr;  // engine::Fiber, with a reference; null before start()
  char* name_ = nullptr;
  uint64_t id_ = 0;
  Site site_;
};

/// Tells of a failure that nobody asked for: by the program's handler (set_unhandled_handler), else on
/// standard error.
WEFT_API void report_unhandled(const Task& task, const char* type, const char* what) noexcept;
/// The same for an actor: its name, or "", and its class, mangled.
WEFT_API void report_failed_actor(const char* name, const char* actor_type, const char* type,
                                  const char* what) noexcept;

}  // namespace weft::detail
