// Completion: something that is done once, and that many may wait for. The base of fibers' and futures'
// states.
#pragma once

#include <type_traits>
#include <utility>

#include "weft/detail/core.hpp"

namespace weft::detail {

class Completion;

/// Called once, by whoever completes, on its thread or fiber; must neither throw nor wait. Lives in its owner
/// until it was called or taken back.
struct Callback {
  void (*call)(Callback& self, Completion& completion) noexcept = nullptr;
  Callback* next = nullptr;
};

/// Reference-counted; destroyed by the module that made it.
class Completion {
 public:
  using Destroy = void (*)(Completion& self) noexcept;

  explicit Completion(Destroy destroy) noexcept : destroy_(destroy) {}
  Completion(const Completion&) = delete;
  Completion& operator=(const Completion&) = delete;

  void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy_(*this);
  }

  bool done() const noexcept { return state_.load(std::memory_order_acquire) & kDone; }
  /// To be called once. Calls the callbacks, then wakes who waits.
  WEFT_API void complete() noexcept;
  /// In a fork child, for what would have been completed by a fiber that is not there: it is done, nothing is
  /// called, nobody waits.
  void lose() noexcept;
  /// Waits until it is done. Any thread.
  Outcome wait(Nanos deadline, uint8_t flags, const char* call) noexcept {
    return done() ? Outcome::kReady : wait_slowly(deadline, flags, call);
  }
  /// Has `callback` called when it is done. False if it is already: it will not be called.
  WEFT_API bool add(Callback& callback) noexcept;
  /// Takes it back. False if it was called, or is being called: then this returns when the call is over.
  WEFT_API bool remove(Callback& callback) noexcept;

  /// Somebody has seen how it ended: a failure need not be reported.
  void observe() noexcept { observed_.store(true, std::memory_order_relaxed); }
  bool observed() const noexcept { return observed_.load(std::memory_order_relaxed); }

 protected:
  ~Completion() = default;

 private:
  static constexpr uint32_t kDone = 1, kWaited = 2, kCalling = 4;

  WEFT_API Outcome wait_slowly(Nanos deadline, uint8_t flags, const char* call) noexcept;
  Destroy destroy_;
  std::atomic<uint32_t> references_{1};
  std::atomic<uint32_t> state_{0};
  SpinLock lock_;  // guards callbacks_
  std::atomic<bool> observed_{false};
  Callback* callbacks_ = nullptr;
};

/// Has `function()` called when `completion` is done, or at once.
template <typename F>
void call_when_done(Completion& completion, F&& function) {
  struct Node : Callback {
    explicit Node(F&& f) : function(std::forward<F>(f)) {}
    std::decay_t<F> function;
  };
  auto* node = new Node(std::forward<F>(function));
  node->call = [](Callback& self, Completion&) noexcept {
    auto* owned = static_cast<Node*>(&self);
    owned->function();
    delete owned;
  };
  if (!completion.add(*node)) node->call(*node, completion);
}

/// Owns a reference to a Completion, or to what derives from one.
template <typename T>
class Ref {
 public:
  constexpr Ref() noexcept = default;
  /// Takes over a reference that the caller owns.
  static Ref adopt(T* pointer) noexcept { return Ref(pointer); }
  static Ref share(T& object) noexcept {
    object.retain();
    return Ref(&object);
  }
  Ref(const Ref& other) noexcept : pointer_(other.pointer_) {
    if (pointer_) pointer_->retain();
  }
  Ref(Ref&& other) noexcept : pointer_(other.pointer_) { other.pointer_ = nullptr; }
  Ref& operator=(Ref other) noexcept {
    T* pointer = pointer_;
    pointer_ = other.pointer_;
    other.pointer_ = pointer;
    return *this;
  }
  ~Ref() {
    if (pointer_) pointer_->release();
  }

  T* get() const noexcept { return pointer_; }
  T& operator*() const noexcept { return *pointer_; }
  T* operator->() const noexcept { return pointer_; }
  explicit operator bool() const noexcept { return pointer_ != nullptr; }

 private:
  explicit Ref(T* pointer) noexcept : pointer_(pointer) {}
  T* pointer_ = nullptr;
};

}  // namespace weft::detail
