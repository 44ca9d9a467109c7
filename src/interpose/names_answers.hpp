// Answers that libc keeps in storage of its own, kept for each fiber instead.
//
// getpwnam() and its kin return a pointer to static storage, the same for all threads. Natively an answer is
// read microseconds after it was given; a fiber reads it when its turn comes, and by then a hundred others
// may have asked. So what a fiber is told is its own until its next question of that kind: the call is
// answered by its `_r` form, into a buffer that grows as libc's own does.
#pragma once

#include <grp.h>
#include <netdb.h>
#include <pwd.h>
#include <shadow.h>

#include <cerrno>
#include <cstdlib>
#include <tuple>
#include <type_traits>

#include "interpose/calls.hpp"
#include "interpose/files_offload.hpp"

namespace weft::engine::interpose {

/// The last answers that a fiber was given, one for each kind of entry. Freed as the fiber ends.
class NameAnswers {
 public:
  template <typename Entry>
  struct Answer {
    Entry entry{};
    char* buffer = nullptr;
    size_t size = 0;

    Answer() = default;
    Answer(const Answer&) = delete;
    Answer& operator=(const Answer&) = delete;
    ~Answer() { free(buffer); }

    /// Makes the buffer twice as large. False, with errno ENOMEM and the buffer as it was: no memory.
    bool grow() noexcept {
      const size_t wanted = size ? 2 * size : 1024;
      void* grown = realloc(buffer, wanted);
      if (!grown) return false;
      buffer = static_cast<char*>(grown);
      size = wanted;
      return true;
    }
  };

  /// Those of the calling fiber. Null, with errno ENOMEM: no memory.
  static NameAnswers* of_fiber() noexcept;

  template <typename Entry>
  Answer<Entry>& last() noexcept {
    return std::get<Answer<Entry>>(answers_);
  }

  int host_error = 0;  ///< h_errno

 private:
  std::tuple<Answer<hostent>, Answer<netent>, Answer<servent>, Answer<protoent>, Answer<passwd>,
             Answer<group>, Answer<spwd>>
      answers_;
};

/// Answers `site` on a fiber by `reentrant`, libc's `_r` form of `function`, in the offload pool; elsewhere
/// by `function` right here. The answer's errno is the call's.
template <typename Entry, typename Reentrant, typename... Args>
Entry* offload_answer(const CallSite& site, Entry* (*function)(Args...), Reentrant* reentrant,
                      std::type_identity_t<Args>... args) noexcept {
  if (!current_fiber()) {
    PinScope pin(site.call, site.caller);
    return function(args...);
  }
  NameAnswers* answers = NameAnswers::of_fiber();
  if (!answers) return nullptr;
  auto& answer = answers->last<Entry>();
  Entry* result = nullptr;
  int host_error = 0;
  constexpr bool kSetsHostError =
      std::is_invocable_v<Reentrant, Args..., Entry*, char*, size_t, Entry**, int*>;
  OffloadPool::instance().run(site.call, [&]() noexcept {
    const auto ask = [&]() noexcept {
      if constexpr (kSetsHostError) {
        const int code = reentrant(args..., &answer.entry, answer.buffer, answer.size, &result, &host_error);
        return code == ERANGE && host_error == NETDB_INTERNAL;
      } else {
        return reentrant(args..., &answer.entry, answer.buffer, answer.size, &result) == ERANGE;
      }
    };
    bool room = answer.buffer || answer.grow();
    while (room && ask()) room = answer.grow();
  });
  if (host_error != 0) *routed::__h_errno_location() = host_error;
  return result;
}

/// For the first three arguments of offload_answer(), in a routed function.
#define WEFT_ANSWER(call) CallSite{#call, __builtin_return_address(0)}, real::call, real::call##_r

}  // namespace weft::engine::interpose
