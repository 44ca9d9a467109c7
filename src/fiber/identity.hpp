// Identity: what makes a fiber a thread to those who look.
//
// Two kinds are planned behind this one interface (docs/design/fibers.md). This is the *shared* one: fibers
// borrow the thread-local storage of the OS thread that runs them, so a switch saves and restores the few
// words in it that must not mix (errno, the C++ exception state), and what pthread_self, thread-specific data
// and signal masks are is answered from here by the routed calls.
#pragma once

#include <pthread.h>

#include <array>
#include <cstdint>

namespace weft::engine {

/// Layout of __cxa_eh_globals (Itanium C++ ABI: Exception Handling, 2.2.2), padding included: it is copied as
/// a whole.
struct alignas(8) ExceptionState {
  void* caught = nullptr;
  unsigned uncaught = 0;
  unsigned padding = 0;
};

/// Where an OS thread keeps what Identity saves. A process may hold two C++ runtimes (one linked statically
/// into the preload library), hence two exception states.
struct ThreadAddresses {
  int* error_number = nullptr;
  std::array<ExceptionState*, 2> exceptions{};
  /// Where an interpreter keeps the thread's present state, if it does so per OS thread. Null unless a fiber
  /// parks while it holds the interpreter's lock; saving it is what makes that legal.
  void** interpreter_state = nullptr;
  /// There is more than the first exception state.
  bool has_more = false;

  /// Those of the calling thread.
  static ThreadAddresses of_this_thread() noexcept;
};

class Identity {
 public:
  Identity() noexcept = default;
  Identity(const Identity&) = delete;
  Identity& operator=(const Identity&) = delete;
  ~Identity();

  /// Called on the carrier of both, before it switches from the fiber of `from` to that of `to`.
  static void exchange(Identity& from, const Identity& to, const ThreadAddresses& thread) noexcept {
    from.error_number_ = *thread.error_number;
    *thread.error_number = to.error_number_;
    from.exceptions_[0] = *thread.exceptions[0];
    *thread.exceptions[0] = to.exceptions_[0];
    if (thread.has_more) exchange_more(from, to, thread);
  }

  /// Thread-specific data (pthread_getspecific). A key that was never set holds null, as does one that was
  /// set as another generation of its number. For the fiber itself.
  void* specific(pthread_key_t key, uint64_t generation = 0) const noexcept {
    return key < capacity_ && values_[key].generation == generation ? values_[key].value : nullptr;
  }
  /// Returns 0 or ENOMEM.
  int set_specific(pthread_key_t key, const void* value, uint64_t generation = 0) noexcept;
  /// Keys below this may hold values.
  pthread_key_t specific_limit() const noexcept { return capacity_; }

  /// Makes this the identity of a new fiber.
  void reset() noexcept;

  /// The fiber's signal mask, a bit for each signal from 1, as the kernel counts them.
  uint64_t signal_mask = 0;

 private:
  struct Value {
    void* value;
    uint64_t generation;
  };

  [[gnu::always_inline]] static void exchange_more(Identity& from, const Identity& to,
                                                   const ThreadAddresses& thread) noexcept {
    if (thread.exceptions[1]) {
      from.exceptions_[1] = *thread.exceptions[1];
      *thread.exceptions[1] = to.exceptions_[1];
    }
    if (thread.interpreter_state) {
      from.interpreter_state_ = *thread.interpreter_state;
      *thread.interpreter_state = to.interpreter_state_;
    }
  }

  int error_number_ = 0;
  pthread_key_t capacity_ = 0;
  std::array<ExceptionState, 2> exceptions_{};
  void* interpreter_state_ = nullptr;
  Value* values_ = nullptr;
};

}  // namespace weft::engine
