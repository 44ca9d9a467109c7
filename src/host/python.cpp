#include "host/python.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "host/safe_memory.hpp"

namespace weft::engine::host {

constinit std::atomic<Python*> Python::instance_{nullptr};

namespace {

// The calling OS thread's variable, once found there.
constinit thread_local void** t_slot = nullptr;

const char* last_component(const char* path) noexcept {
  const char* slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

void copy_text(char* out, size_t size, const char* text) noexcept {
  const size_t length = strnlen(text, size - 1);
  memcpy(out, text, length);
  out[length] = '\0';
}

// PY_VERSION_HEX out of "3.10.13 (main, ...": for versions without Py_Version.
unsigned long parse_version(const char* text) noexcept {
  unsigned long version = 0;
  for (int shift = 24; shift >= 8; shift -= 8) {
    char* end;
    version |= strtoul(text, &end, 10) << shift;
    if (*end != '.') break;
    text = end + 1;
  }
  return version;
}

}  // namespace

/// Fills in a Python.
class PythonFinder {
 public:
  static Python* find() noexcept {
    void* handle = interpreter_handle();
    Python* python = handle ? new (std::nothrow) Python : nullptr;
    if (python && python->api_.resolve(handle) && examine(*python)) return python;
    delete python;
    return nullptr;
  }

 private:
  // The object that really defines the interpreter: the executable, or a libpython, which the executable need
  // not have been linked to, so that its symbols are not global ones.
  static void* interpreter_handle() noexcept {
    if (void* symbol = dlsym(RTLD_DEFAULT, "Py_IsInitialized")) {
      Dl_info info;
      ElfW(Sym)* entry = nullptr;
      link_map* map = nullptr;
      const bool known = dladdr1(symbol, &info, reinterpret_cast<void**>(&entry), RTLD_DL_SYMENT) && entry &&
                         dladdr1(symbol, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) && map;
      // In an executable that is not position-independent the name may stand for its own PLT stub.
      if (known && entry->st_shndx != SHN_UNDEF)
        return dlopen(map->l_name[0] ? map->l_name : nullptr, RTLD_LAZY | RTLD_NOLOAD);
    }
    char path[512] = {};
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* out) {
          const char* name = last_component(info->dlpi_name);
          // libpython3.so forwards to the real one, for extensions of the stable ABI.
          if (strncmp(name, "libpython3", 10) != 0 || strncmp(name, "libpython3.so", 13) == 0) return 0;
          copy_text(static_cast<char*>(out), 512, info->dlpi_name);
          return 1;
        },
        path);
    return path[0] ? dlopen(path, RTLD_LAZY | RTLD_NOLOAD) : nullptr;
  }

  static bool examine(Python& python) noexcept {
    const PythonApi& api = python.api_;
    Dl_info info;
    link_map* map = nullptr;
    if (!dladdr1(reinterpret_cast<void*>(api.is_initialized), &info, reinterpret_cast<void**>(&map),
                 RTLD_DL_LINKMAP) ||
        !map)
      return false;
    python.link_map_ = map;
    copy_text(python.linker_name_, sizeof python.linker_name_, map->l_name);
    copy_text(python.object_path_, sizeof python.object_path_, map->l_name);
    if (!map->l_name[0]) {
      const ssize_t length = readlink("/proc/self/exe", python.object_path_, sizeof python.object_path_ - 1);
      python.object_path_[length > 0 ? length : 0] = '\0';
    }
    dl_iterate_phdr(&measure, &python);
    if (python.object_end_ == 0) return false;

    if (api.version_text) python.version_text_ = api.version_text();
    python.version_ = api.version ? *api.version : parse_version(python.version_text_);
    python.free_threaded_ = says_free_threaded(api, python.version_);
    python.has_layout_ = find_layout(api, python.version_, python.layout_);
    return true;
  }

  // Notes the extent of the object and of its thread-local block.
  static int measure(dl_phdr_info* info, size_t, void* argument) noexcept {
    Python& python = *static_cast<Python*>(argument);
    const auto function = reinterpret_cast<uintptr_t>(python.api_.is_initialized);
    uintptr_t begin = UINTPTR_MAX, end = 0;
    size_t thread_block = 0;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
      const ElfW(Phdr)& segment = info->dlpi_phdr[i];
      if (segment.p_type == PT_TLS) thread_block = segment.p_memsz;
      if (segment.p_type != PT_LOAD) continue;
      const uintptr_t start = info->dlpi_addr + segment.p_vaddr;
      if (start < begin) begin = start;
      if (start + segment.p_memsz > end) end = start + segment.p_memsz;
    }
    if (function < begin || function >= end) return 0;
    python.object_begin_ = begin;
    python.object_end_ = end;
    python.thread_block_size_ = thread_block;
    return 1;
  }
};

Python* Python::find() noexcept {
  Python* found = present();
  if (found) return found;
  // No lock: the dynamic linker has one, which a caller may hold.
  Python* python = PythonFinder::find();
  if (!python || instance_.compare_exchange_strong(found, python, std::memory_order_acq_rel)) return python;
  delete python;
  return found;
}

bool Python::is_interpreter_object(const char* name) const noexcept {
  return strcmp(name, linker_name_) == 0 || strcmp(name, object_path_) == 0;
}

bool Python::may_begin_thread(void* (*start)(void*)) const noexcept {
  return at_least(3, 13) || !finalizing() || !is_interpreter_object(reinterpret_cast<const void*>(start));
}

bool Python::is_watchdog(void* (*start)(void*), void* argument) const noexcept {
  if (!is_interpreter_object(reinterpret_cast<const void*>(start))) return false;
  // The argument of pythread_wrapper(). Python's threads have one of their own; faulthandler's has none.
  struct {
    void (*function)(void*);
    void* argument;
  } callback;
  return read_memory(reinterpret_cast<uintptr_t>(argument), callback) && !callback.argument &&
         is_interpreter_object(reinterpret_cast<const void*>(callback.function));
}

bool Python::running_fiber_holds_gil() const noexcept {
  const ThreadStatePointer current = api_.current_state();
  if (!current) return false;
  // From 3.12 on that was the variable of this OS thread, which a fiber leaves empty when it parks without
  // the GIL, and takes along when it parks with it. Before, it was the process's.
  return at_least(3, 12) || own_state_is(current);
}

bool Python::own_state_is(ThreadStatePointer current) const noexcept {
  const ThreadStatePointer own = api_.own_state();
  if (own == current) return true;
  // In a subinterpreter a thread has a state besides its own; and some programs make states on other threads.
  // Then the state names its thread. It may be another thread's, which may free it as we look.
  if (!has_layout_ || (own && api_.interpreter_head() == api_.interpreter_main())) return false;
  unsigned long thread_id;
  return read_memory(reinterpret_cast<uintptr_t>(current) + layout_.state_thread_id, thread_id) &&
         thread_id == api_.thread_ident();
}

bool Python::can_park_with_gil() noexcept {
  return !at_least(3, 12) || thread_state_slot();
}

void** Python::thread_state_slot() noexcept {
  if (t_slot || !at_least(3, 12)) return t_slot;
  const size_t offset = slot_offset_.load(std::memory_order_acquire);
  if (offset == kUnknown) return t_slot = find_slot();
  void** block = block_of_this_thread();
  return t_slot = block ? block + offset : nullptr;
}

// Null if this thread has no such block yet.
void** Python::block_of_this_thread() const noexcept {
  // The block comes into being when the thread first touches it.
  api_.current_state();
  void* block = nullptr;
  return dlinfo(link_map_, RTLD_DI_TLS_DATA, &block) == 0 ? static_cast<void**>(block) : nullptr;
}

// The variable is not exported, and stripped executables have no other symbols. But it is a word in this
// thread's block of the object's thread-local segment, it equals the attached state, and the interpreter's
// own answer follows it.
void** Python::find_slot() noexcept {
  const ThreadStatePointer current = api_.current_state();
  void** block = current ? block_of_this_thread() : nullptr;
  if (!block) return nullptr;
  for (size_t i = 0; i < thread_block_size_ / sizeof(void*); ++i) {
    void* volatile& word = block[i];
    if (word != current) continue;
    word = nullptr;
    const bool follows = api_.current_state() == nullptr;
    word = current;
    if (!follows || api_.current_state() != current) continue;
    slot_offset_.store(i, std::memory_order_release);
    return block + i;
  }
  return nullptr;
}

void* Python::suspend_thread_state() noexcept {
  if (!at_least(3, 12)) return nullptr;
  const ThreadStatePointer current = api_.current_state();
  if (!current) return nullptr;
  void** slot = thread_state_slot();
  if (!slot) return nullptr;
  *slot = nullptr;
  return current;
}

void Python::resume_thread_state(void* state) noexcept {
  if (!state) return;
  if (void** slot = thread_state_slot()) *slot = state;
}

}  // namespace weft::engine::host
