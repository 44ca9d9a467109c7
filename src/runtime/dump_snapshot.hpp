// What a dump is made of: the state of all fibers at one moment.
#pragma once

#include <string_view>

#include "fiber/carrier.hpp"
#include "host/text_sink.hpp"
#include "runtime/dump_stack.hpp"

namespace weft::engine::dump {

struct SystemCall;

/// Memory that is filled once and given back as a whole; not from malloc, whose locks a stopped fiber may
/// hold.
class Arena {
 public:
  explicit Arena(size_t size) noexcept;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Null when it is full.
  void* allocate(size_t size) noexcept;
  size_t room() const noexcept { return static_cast<size_t>(end_ - next_); }
  /// Where the next allocation will be, for those who first write and then know the size.
  char* next() noexcept { return reinterpret_cast<char*>(next_); }

 private:
  std::byte* begin_ = nullptr;
  std::byte* next_ = nullptr;
  std::byte* end_ = nullptr;
};

/// Addresses of code, innermost first.
struct FrameList {
  const uintptr_t* addresses = nullptr;
  size_t count = 0;
};

/// A call that blocks the carrier.
struct Pin {
  const char* call = nullptr;  ///< null: none is known
  const void* caller = nullptr;
  Nanos lasts = 0;
};

struct FiberRecord {
  FiberRecord* next = nullptr;
  uint64_t id = 0;
  Fiber::Name name{};
  Fiber::State state = Fiber::State::kFree;
  bool running = false;
  bool holds_gil = false;
  WaitReason reason;
  Nanos waiting = 0;  ///< for how long
  FrameList frames;
  // Text, possibly empty.
  std::string_view target;  ///< what the descriptor it waits for is
  std::string_view holder;
  std::string_view python_name;  ///< of the thread
  std::string_view python;       ///< lines
};

/// Taken by the constructor, which stops the carrier meanwhile. Uses no malloc and no locks of libc.
class Snapshot {
 public:
  explicit Snapshot(Carrier& carrier) noexcept;

  const FiberRecord* first() const noexcept { return first_; }

  bool stood_still = false;  ///< between two fibers; else the carrier was busy with one
  bool cut = false;          ///< not everything fitted, or the carrier went on early
  int carrier_thread = 0;
  int system_call = -1;               ///< that the busy carrier was in; -1: none
  uintptr_t system_call_address = 0;  ///< from where
  Pin pin;                            ///< the routed call that the busy carrier was in
  bool gil_held_outside = false;      ///< by a thread that is no fiber

 private:
  struct PythonThreads;
  void look_at_busy_carrier(Carrier& carrier) noexcept;
  bool look_at_pin(Carrier& carrier, const SystemCall& call) noexcept;
  void keep_stack_of(const Fiber& fiber, bool on_carrier, FiberRecord& record) noexcept;
  void keep_stack(const StackContext& start, FrameList& kept) noexcept;
  void add(Fiber& fiber, Carrier& carrier, PythonThreads& python) noexcept;
  template <typename Write>
  std::string_view write_text(Write&& write) noexcept;

  Arena arena_;
  bool interrupted_ = false;  // in the middle of what the running fiber does
  FrameList pinned_frames_;
  FiberRecord* first_ = nullptr;
  FiberRecord** last_ = &first_;
  Nanos now_ = 0;
};

/// Describes an open descriptor: where a socket leads, which file it is. Async-signal-safe.
void describe_descriptor(int fd, host::TextSink& sink) noexcept;

}  // namespace weft::engine::dump
