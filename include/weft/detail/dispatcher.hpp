// What runs actors that have no fiber of their own.
#pragma once

#include "weft/detail/completion.hpp"

namespace weft::detail {

class ActorCore;

/// What a language needs of a thread or fiber that runs its actors. Neither may throw.
struct WorkerType {
  void* (
      *begin)() noexcept;  ///< on it, before the first actor; what it returns is passed to ActorType::enter()
  void (*end)(void* worker) noexcept;
};

struct DispatcherOptions {
  const WorkerType* type;
  const char* name;  ///< of its threads or fibers; copied, may be cut to 15 characters
  uint32_t workers;  ///< at most; each is started when there is work for it
  bool on_fibers;    ///< else on OS threads
};

/// Workers that run many actors by turns: an actor that has messages is in its queue until a worker has time.
/// Its workers end when nobody and no actor has a reference to it. Any thread. Reference-counted.
class Dispatcher {
 public:
  /// Null: ENOMEM, in errno.
  WEFT_API static Dispatcher* create(const DispatcherOptions& options) noexcept;
  WEFT_API void retain() noexcept;
  WEFT_API void release() noexcept;

  /// Runs the actor until it has stopped; it keeps a reference to it, and the actor one to this. Once for an
  /// actor. An errno: EINVAL: it was run or abandoned before; else why there is no worker.
  WEFT_API int start(ActorCore& actor) noexcept;

 private:
  friend class ActorCore;
  class Impl;
  Dispatcher() noexcept = default;
  ~Dispatcher() = default;

  /// Puts it into the queue. REQUIRES: start() of it, and that it is in no queue and does not run.
  void submit(ActorCore& actor) noexcept;
  Impl& impl() noexcept;
};

}  // namespace weft::detail
