// Threads and locks of C11, by way of pthreads', which they are in libc: thrd_t is a pthread_t, mtx_t a
// pthread_mutex_t, cnd_t a pthread_cond_t. Those whose results are the same numbers are aliases in the table.
#include <threads.h>

#include <cerrno>
#include <new>

#include "interpose/calls.hpp"

namespace weft::engine::interpose {

namespace {

int thrd_result(int error) noexcept {
  switch (error) {
    case 0:
      return thrd_success;
    case ENOMEM:
      return thrd_nomem;
    case ETIMEDOUT:
      return thrd_timedout;
    case EBUSY:
      return thrd_busy;
    default:
      return thrd_error;
  }
}

struct Start {
  thrd_start_t function;
  void* argument;
};

void* run(void* argument) {
  const Start start = *static_cast<Start*>(argument);
  delete static_cast<Start*>(argument);
  return reinterpret_cast<void*>(intptr_t{start.function(start.argument)});
}

}  // namespace

int routed::thrd_create(thrd_t* thread, thrd_start_t function, void* argument) noexcept {
  auto* start = new (std::nothrow) Start{function, argument};
  if (!start) return thrd_nomem;
  const int error = routed::pthread_create(thread, nullptr, &run, start);
  if (error) delete start;
  return thrd_result(error);
}

int routed::thrd_join(thrd_t thread, int* result) noexcept {
  void* value = nullptr;
  const int error = routed::pthread_join(thread, &value);
  if (error == 0 && result) *result = static_cast<int>(reinterpret_cast<intptr_t>(value));
  return thrd_result(error);
}

int routed::thrd_detach(thrd_t thread) noexcept {
  return thrd_result(routed::pthread_detach(thread));
}

int routed::mtx_trylock(mtx_t* mutex) noexcept {
  return thrd_result(routed::pthread_mutex_trylock(reinterpret_cast<pthread_mutex_t*>(mutex)));
}

int routed::mtx_timedlock(mtx_t* mutex, const timespec* time) noexcept {
  return thrd_result(routed::pthread_mutex_timedlock(reinterpret_cast<pthread_mutex_t*>(mutex), time));
}

int routed::cnd_timedwait(cnd_t* condition, mtx_t* mutex, const timespec* time) noexcept {
  return thrd_result(routed::pthread_cond_timedwait(reinterpret_cast<pthread_cond_t*>(condition),
                                                    reinterpret_cast<pthread_mutex_t*>(mutex), time));
}

}  // namespace weft::engine::interpose
