// What actors run on.
#pragma once

#include <cerrno>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include "weft/detail/dispatcher.hpp"
#include "weft/error.hpp"

namespace weft {

/// What an actor runs on. Copies refer to the same workers, which end when nothing refers to them and no
/// actor runs on them. Any thread.
class Dispatcher {
 public:
  /// A fiber of its own for each actor. What Actor::start() does.
  Dispatcher() noexcept = default;

  /// At most so many OS threads that run many actors by turns; each is started when there is work for it. An
  /// actor that waits keeps its thread. An actor on them has no stack of its own: some hundred bytes. Throws
  /// std::invalid_argument for none, std::bad_alloc.
  static Dispatcher threads(uint32_t workers, std::string_view name = "weft-actors") {
    return Dispatcher(workers, name, false);
  }
  /// The same on fibers.
  static Dispatcher fibers(uint32_t workers, std::string_view name = "weft-actors") {
    return Dispatcher(workers, name, true);
  }
  /// An OS thread of its own for each actor: for long computations, and for libraries that want a thread to
  /// themselves.
  static Dispatcher own_thread() noexcept {
    Dispatcher dispatcher;
    dispatcher.own_thread_ = true;
    return dispatcher;
  }

 private:
  template <typename>
  friend class Actor;

  static constexpr detail::WorkerType kWorker{nullptr, nullptr};

  Dispatcher(uint32_t workers, std::string_view name, bool on_fibers) {
    if (workers == 0) throw std::invalid_argument("weft::Dispatcher: at least one worker is needed");
    core_ = make(workers, name, on_fibers);
  }
  static detail::Ref<detail::Dispatcher> make(uint32_t workers, std::string_view name, bool on_fibers) {
    detail::Dispatcher* made =
        detail::Dispatcher::create({&kWorker, std::string(name).c_str(), workers, on_fibers});
    if (!made) throw std::bad_alloc();
    return detail::Ref<detail::Dispatcher>::adopt(made);
  }
  /// What the actor `core` is to run on; empty: a fiber of its own.
  detail::Ref<detail::Dispatcher> workers(std::string_view name) const {
    return own_thread_ ? make(1, name.empty() ? "weft-actor" : name, false) : core_;
  }

  detail::Ref<detail::Dispatcher> core_;
  bool own_thread_ = false;
};

}  // namespace weft
