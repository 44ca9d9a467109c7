#include "heap/allocator.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace weft::heap {

namespace {

struct Definition {
  void* address = nullptr;
  const void* base = nullptr;  // of the object that it lies in
  const char* file = "";
};

bool is_stub(void* address) noexcept {
  Dl_info info{};
  void* entry = nullptr;
  if (dladdr1(address, &info, &entry, RTLD_DL_SYMENT) == 0 || !entry) return false;
  return static_cast<const Elf64_Sym*>(entry)->st_shndx == SHN_UNDEF;
}

// Where the program's own calls of `name` end.
bool find(const char* name, Definition& found) noexcept {
  void* address = dlsym(RTLD_DEFAULT, name);
  if (!address) return false;
  if (is_stub(address)) {
    // A program at a fixed address that takes the function's address has a stub that stands for it. Then the
    // first object behind the program that has it is the one that the stub leads to.
    void* const program = dlopen(nullptr, RTLD_LAZY | RTLD_NOLOAD);
    link_map* map = nullptr;
    if (!program || dlinfo(program, RTLD_DI_LINKMAP, &map) != 0) return false;
    address = nullptr;
    for (map = map->l_next; map && !address; map = map->l_next) {
      void* const handle = dlopen(map->l_name, RTLD_LAZY | RTLD_NOLOAD);
      if (!handle) continue;
      void* const candidate = dlsym(handle, name);
      Dl_info info{};
      // The handle's search goes on in what the object depends on.
      if (candidate && dladdr(candidate, &info) != 0 &&
          reinterpret_cast<uintptr_t>(info.dli_fbase) == map->l_addr)
        address = candidate;
      dlclose(handle);
    }
    dlclose(program);
    if (!address) return false;
  }
  Dl_info info{};
  if (dladdr(address, &info) == 0) return false;
  found = {address, info.dli_fbase, info.dli_fname ? info.dli_fname : "an unknown file"};
  return true;
}

struct Known {
  AllocatorCalls calls;
  bool split = false;  // several libraries have parts of it
  char refusal[1024] = "";
};

Known look() noexcept {
  Known known;
  const auto refuse = [&](const auto&... parts) {
    const char* const texts[] = {parts...};
    size_t used = 0;
    for (const char* text : texts)
      if (used < sizeof known.refusal)
        used += static_cast<size_t>(snprintf(known.refusal + used, sizeof known.refusal - used, "%s", text));
  };
  Definition owner;
  if (!find("malloc", owner)) {
    refuse("weft.heap: it cannot be found out where this process's malloc() is; run it with glibc's");
    return known;
  }
  for (const char* name : {"free", "calloc", "realloc", "posix_memalign", "aligned_alloc"}) {
    Definition other;
    if (find(name, other) && other.base == owner.base) continue;
    known.split = true;
    refuse("weft.heap: this process's allocator was replaced half-way: malloc() is that of ", owner.file,
           ", ", name, "() that of ", other.file,
           ", and neither knows all of the heap; preload or link a library that brings all of "
           "malloc(), calloc(), realloc(), posix_memalign(), aligned_alloc() and free(), or none of them");
    return known;
  }
  for (const auto make : {jemalloc_calls, mimalloc_calls, glibc_calls})
    if (known.calls.owner == HeapOwner::kOther && !known.calls.lacks) known.calls = make(owner.base);
  if (known.calls.owner == HeapOwner::kOther)
    refuse("weft.heap: this process's allocator, in ", owner.file, ", ",
           known.calls.lacks ? known.calls.lacks : "is not one whose figures are known",
           "; run the program with that of glibc (if LD_PRELOAD names the file, without), jemalloc 5 or "
           "mimalloc 2");
  return known;
}

// malloc() is bound when the program is loaded, once for all: so the first answer holds.
const Known& known() noexcept {
  static const Known first = look();
  return first;
}

}  // namespace

void* meant_symbol(const char* name) noexcept {
  Definition found;
  return find(name, found) ? found.address : nullptr;
}

void* symbol_of(const void* base, const char* name) noexcept {
  Definition found;
  return find(name, found) && found.base == base ? found.address : nullptr;
}

}  // namespace weft::heap

namespace weft::detail {

HeapOwner heap_owner() noexcept {
  return heap::known().calls.owner;
}

const char* heap_refusal() noexcept {
  return heap::known().refusal;
}

bool heap_is_split() noexcept {
  return heap::known().split;
}

int heap_figures(HeapFigures& figures) noexcept {
  const auto& calls = heap::known().calls;
  return calls.figures ? calls.figures(figures) : ENOTSUP;
}

int heap_trim(bool& released) noexcept {
  const auto& calls = heap::known().calls;
  return calls.trim ? calls.trim(released) : ENOTSUP;
}

int heap_arenas(HeapArena* arenas, size_t room, size_t& count) noexcept {
  const auto& calls = heap::known().calls;
  return calls.arenas ? calls.arenas(arenas, room, count) : ENOTSUP;
}

}  // namespace weft::detail
