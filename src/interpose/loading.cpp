// Loading: a library that comes is patched before the call that brought it returns; one that goes is
// forgotten.
#include "interpose/loading.hpp"

#include <dlfcn.h>
#include <link.h>

#include <atomic>
#include <cstring>

#include "interpose/calls.hpp"
#include "interpose/support.hpp"

extern "C" void* weft_call_from(void* a0, void* a1, void* a2, void* function, const void* return_site);

namespace weft::engine::interpose {

namespace {

elf::Patcher* g_patcher = nullptr;
const Settings* g_settings = nullptr;
constinit std::atomic<void (*)() noexcept> g_observer{nullptr};

// A `ret` instruction in the object that contains `caller`. dlopen searches by the run path of the object
// that calls it, which it tells by its return address, and through us that would be this library.
const void* return_site_near(const void* caller) noexcept {
  struct Search {
    uintptr_t caller;
    const void* found;
  } search{reinterpret_cast<uintptr_t>(caller), nullptr};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto& wanted = *static_cast<Search*>(data);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const ElfW(Phdr)& header = info->dlpi_phdr[i];
          const uintptr_t begin = info->dlpi_addr + header.p_vaddr;
          if (header.p_type != PT_LOAD || !(header.p_flags & PF_X) || !(header.p_flags & PF_R) ||
              wanted.caller < begin || wanted.caller >= begin + header.p_memsz)
            continue;
          // Onwards from the caller: its own function's end is near.
          wanted.found = memchr(reinterpret_cast<const void*>(wanted.caller), 0xc3,
                                begin + header.p_memsz - wanted.caller);
          return 1;
        }
        return 0;
      },
      &search);
  return search.found;
}

template <typename Function>
void* call_from(const void* caller, Function* function, const void* a0, const void* a1,
                const void* a2) noexcept {
  // While the loader works, its lock is held for this OS thread: a switch from a constructor would let
  // another fiber in.
  NoSwitchScope no_switch;
  const void* site = return_site_near(caller);
  if (!site) site = return_site_near(reinterpret_cast<const void*>(&weft_call_from));
  return weft_call_from(const_cast<void*>(a0), const_cast<void*>(a1), const_cast<void*>(a2),
                        reinterpret_cast<void*>(function), site);
}

void loaded() noexcept {
  ErrnoKeeper keeper;
  g_patcher->rescan();
  if (auto* observer = g_observer.load(std::memory_order_acquire)) observer();
  // A C++ runtime may have come along.
  if (Carrier* carrier = Carrier::current()) carrier->refresh_addresses();
}

// What dlsym() and dlvsym() answer in place of `found`. Whose threads become fibers is decided by the object
// that creates them, which is not known here: only if everybody's do.
void* answer(const char* symbol, void* found) noexcept {
  if (!found) return nullptr;
  if (creates_thread(symbol) && g_settings->threads != Threads::kAll) return found;
  ErrnoKeeper keeper;
  return g_patcher->found_by_name(symbol, found);
}

}  // namespace

void set_loading_patcher(elf::Patcher& patcher, const Settings& settings) noexcept {
  g_patcher = &patcher;
  g_settings = &settings;
}

void set_load_observer(void (*observer)() noexcept) noexcept {
  g_observer.store(observer, std::memory_order_release);
}

bool creates_thread(const char* symbol) noexcept {
  return strcmp(symbol, "pthread_create") == 0 || strcmp(symbol, "thrd_create") == 0;
}

// Both search from the object that calls them on if the handle is RTLD_NEXT or RTLD_DEFAULT.
void* routed::dlsym(void* handle, const char* symbol) noexcept {
  return answer(symbol, call_from(__builtin_return_address(0), real::dlsym, handle, symbol, nullptr));
}

void* routed::dlvsym(void* handle, const char* symbol, const char* version) noexcept {
  return answer(symbol, call_from(__builtin_return_address(0), real::dlvsym, handle, symbol, version));
}

void* routed::dlopen(const char* file, int mode) noexcept {
  PinScope pin("dlopen", __builtin_return_address(0));
  void* handle = call_from(__builtin_return_address(0), real::dlopen, file,
                           reinterpret_cast<void*>(intptr_t{mode}), nullptr);
  if (handle && file) loaded();
  return handle;
}

void* routed::dlmopen(Lmid_t space, const char* file, int mode) noexcept {
  void* handle = call_from(__builtin_return_address(0), real::dlmopen, reinterpret_cast<void*>(space), file,
                           reinterpret_cast<void*>(intptr_t{mode}));
  if (handle && space == LM_ID_BASE) loaded();
  return handle;
}

int routed::dlclose(void* handle) noexcept {
  int result;
  {
    NoSwitchScope no_switch;
    result = real::dlclose(handle);
  }
  ErrnoKeeper keeper;
  g_patcher->rescan();
  return result;
}

}  // namespace weft::engine::interpose
