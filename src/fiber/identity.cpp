#include "fiber/identity.hpp"

#include <cxxabi.h>
#include <dlfcn.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "fiber/engine_memory.hpp"

namespace weft::engine {

ThreadAddresses ThreadAddresses::of_this_thread() noexcept {
  using GetGlobals = void* (*)();
  ThreadAddresses addresses;
  addresses.error_number = &errno;
  addresses.exceptions[0] = reinterpret_cast<ExceptionState*>(abi::__cxa_get_globals());
  // The program's own C++ runtime, where that is not the one this library was linked with.
  if (auto other = reinterpret_cast<GetGlobals>(dlsym(RTLD_DEFAULT, "__cxa_get_globals"))) {
    auto* state = static_cast<ExceptionState*>(other());
    if (state != addresses.exceptions[0]) addresses.exceptions[1] = state;
    addresses.has_more = addresses.exceptions[1] != nullptr;
  }
  return addresses;
}

Identity::~Identity() {
  engine_free(values_, capacity_ * sizeof(Value));
}

void Identity::reset() noexcept {
  engine_free(values_, capacity_ * sizeof(Value));
  values_ = nullptr;
  capacity_ = 0;
  signal_mask = 0;
  error_number_ = 0;
  exceptions_ = {};
  interpreter_state_ = nullptr;
}

int Identity::set_specific(pthread_key_t key, const void* value, uint64_t generation) noexcept {
  if (key >= capacity_) {
    if (!value) return 0;
    const pthread_key_t capacity = std::bit_ceil(std::max<pthread_key_t>(key + 1, 4));
    auto* values = static_cast<Value*>(engine_allocate(capacity * sizeof(Value)));
    if (!values) return ENOMEM;
    std::copy_n(values_, capacity_, values);
    engine_free(values_, capacity_ * sizeof(Value));
    values_ = values;
    capacity_ = capacity;
  }
  values_[key] = {const_cast<void*>(value), generation};
  return 0;
}

}  // namespace weft::engine
