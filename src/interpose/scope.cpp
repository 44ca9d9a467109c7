#include "interpose/scope.hpp"

#include <fnmatch.h>

#include <algorithm>
#include <cerrno>

#include "interpose/elf/base_name.hpp"
#include "interpose/loading.hpp"

namespace weft::engine::interpose {

namespace {

// What wakes those that wait, and does not wait itself.
constexpr std::string_view kWaking[] = {
    "__pthread_mutex_unlock",
    "cnd_broadcast",
    "cnd_signal",
    "mtx_unlock",
    "pthread_barrier_destroy",
    "pthread_barrier_init",
    "pthread_cond_broadcast",
    "pthread_cond_signal",
    "pthread_mutex_unlock",
    "pthread_rwlock_unlock",
    "sem_post",
};
static_assert(std::is_sorted(std::begin(kWaking), std::end(kWaking)));

}  // namespace

bool covers(const Scope& scope, Family family, std::string_view symbol, std::string_view object) noexcept {
  if (!(bit(family) & kChosenFamilies)) return true;
  if (family == Family::kThreads) return true;  // what a thread is; whose become fibers is asked elsewhere
  if (family == Family::kLocks && std::binary_search(std::begin(kWaking), std::end(kWaking), symbol))
    return true;
  if (!(scope.families & bit(family))) return false;
  if (scope.excluded.empty()) return true;
  const std::string name(base_name(object));
  return std::none_of(scope.excluded.begin(), scope.excluded.end(), [&](const std::string& pattern) {
    return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  });
}

}  // namespace weft::engine::interpose
