#include "heap/count_calls.hpp"

#include <dlfcn.h>
#include <malloc.h>
#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "heap/allocator.hpp"
#include "heap/count_slots.hpp"
#include "heap/profile_sample.hpp"
#include "interpose/elf/image.hpp"
#include "interpose/elf/libc_symbol.hpp"

namespace weft::heap {

namespace {

using engine::interpose::elf::Image;
using engine::interpose::elf::libc_symbol;
using engine::interpose::elf::Route;

// Written once, before anything is routed.
constinit RealCalls g_real{};
constinit bool g_has_headers = false;

constexpr size_t kPage = 4096;

// Its functions are not libc's, and what they allocate must be freed by them.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

[[gnu::cold, gnu::noinline]] void count_without_slot(uint64_t made, uint64_t freed, int64_t bytes) noexcept {
  CountSlot* slot = take_slot();
  if (!slot) return add_shared(made, freed, bytes, 0);
  CountSlot::bump(slot->made, made);
  CountSlot::bump(slot->freed, freed);
  CountSlot::bump(slot->bytes, bytes);
}

void count_mapping(int64_t bytes) noexcept {
  CountSlot* slot = t_slot;
  if (!slot && !(slot = take_slot())) return add_shared(0, 0, 0, bytes);
  CountSlot::bump(slot->mappings, bytes);
}

// What malloc_usable_size() says: the word before a block is the size of both together with a word after it,
// which is the block's own unless it was mapped alone (bit 1 of three flags). glibc's malloc has had that
// layout since 2.0, and find_real_calls() looks whether it still has.
int64_t size_by_header(const void* block) noexcept {
  uint64_t head;
  memcpy(&head, static_cast<const char*>(block) - sizeof head, sizeof head);
  return static_cast<int64_t>((head & ~uint64_t{7}) - 8 - (head & 2) * 4);
}

int64_t size_by_call(const void* block) noexcept {
  return static_cast<int64_t>(g_real.malloc_usable_size(const_cast<void*>(block)));
}

int64_t pages(size_t size) noexcept {
  return static_cast<int64_t>((size + kPage - 1) & ~(kPage - 1));
}

// Every instruction is felt that they add to malloc() and free(): a few counters, no call that can be spared,
// and the rare cases in functions of their own, so that nothing has to be kept over a call.
template <int64_t (*size_of)(const void*)>
struct Blocks {
  // Inlined into what takes the place of malloc(), for whose caller the stack of a sample is meant.
  [[gnu::always_inline]] static void* made(void* block) noexcept {
    if (!block) return nullptr;
    CountSlot* slot = t_slot;
    if (!slot) [[unlikely]]
      return made_without_slot(block, __builtin_return_address(0));
    const int64_t bytes = size_of(block);
    CountSlot::bump(slot->made, uint64_t{1});
    CountSlot::bump(slot->bytes, bytes);
    if (is_sample(*slot, bytes)) [[unlikely]]
      return sample(*slot, block, bytes, __builtin_return_address(0));
    return block;
  }
  [[gnu::cold, gnu::noinline]] static void* made_without_slot(void* block, const void* caller) noexcept {
    const int64_t bytes = size_of(block);
    count_without_slot(1, 0, bytes);
    return t_slot && is_sample(*t_slot, bytes) ? sample(*t_slot, block, bytes, caller) : block;
  }

  static void* malloc(size_t size) noexcept { return made(g_real.malloc(size)); }

  static void* calloc(size_t number, size_t size) noexcept { return made(g_real.calloc(number, size)); }

  static void free(void* block) noexcept {
    if (!block) return;
    CountSlot* slot = t_slot;
    if (!slot) [[unlikely]]
      return free_without_slot(block);
    CountSlot::bump(slot->freed, uint64_t{1});
    // Before it is another's; also the samples.
    CountSlot::bump(slot->bytes, -size_of(block));
    if (may_be_sampled(block)) [[unlikely]]
      return free_sampled(block);
    g_real.free(block);
  }
  [[gnu::cold, gnu::noinline]] static void free_without_slot(void* block) noexcept {
    count_without_slot(0, 1, -size_of(block));
    if (may_be_sampled(block)) return free_sampled(block);
    g_real.free(block);
  }
  [[gnu::noinline]] static void free_sampled(void* block) noexcept {
    LiveBlock sampled;
    forget_sample(block, sampled);
    g_real.free(block);
  }

  static void* realloc(void* block, size_t size) noexcept {
    return realloc_for(block, size, __builtin_return_address(0));
  }
  static void* realloc_for(void* block, size_t size, const void* caller) noexcept {
    const int64_t former = block ? size_of(block) : 0;
    LiveBlock sampled;
    const bool was_sampled = block && may_be_sampled(block) && forget_sample(block, sampled);
    void* result = g_real.realloc(block, size);
    // Null for no bytes is what free() does; for others it is a failure, which leaves the block.
    if (!result && (size != 0 || !block)) {
      if (was_sampled) remember_sample(sampled);
      return nullptr;
    }
    const uint64_t made = result ? 1 : 0, freed = block ? 1 : 0;
    const int64_t bytes = result ? size_of(result) : 0;
    CountSlot* slot = t_slot;
    if (!slot) [[unlikely]] {
      count_without_slot(made, freed, bytes - former);
      slot = t_slot;
    } else {
      CountSlot::bump(slot->made, made);
      CountSlot::bump(slot->freed, freed);
      CountSlot::bump(slot->bytes, bytes - former);
    }
    if (result && slot && is_sample(*slot, bytes)) return sample(*slot, result, bytes, caller);
    return result;
  }

  // libc's calls realloc(), by a slot that is routed as well, or not: that depends on how it was built.
  static void* reallocarray(void* block, size_t number, size_t size) noexcept {
    size_t bytes;
    if (__builtin_mul_overflow(number, size, &bytes)) {
      errno = ENOMEM;
      return nullptr;
    }
    return realloc_for(block, bytes, __builtin_return_address(0));
  }

  static void* aligned_alloc(size_t alignment, size_t size) noexcept {
    return made(g_real.aligned_alloc(alignment, size));
  }
  static void* memalign(size_t alignment, size_t size) noexcept {
    return made(g_real.memalign(alignment, size));
  }
  static int posix_memalign(void** block, size_t alignment, size_t size) noexcept {
    const int error = g_real.posix_memalign(block, alignment, size);
    if (error == 0) made(*block);
    return error;
  }
  static void* valloc(size_t size) noexcept { return made(g_real.valloc(size)); }
  static void* pvalloc(size_t size) noexcept { return made(g_real.pvalloc(size)); }
};

namespace routed {

void* mmap(void* address, size_t size, int protection, int flags, int descriptor, long offset) noexcept {
  void* result = g_real.mmap(address, size, protection, flags, descriptor, offset);
  // What stands at a fixed place was reserved before, as a rule, and is given back with the reservation.
  const bool replaces = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) == MAP_FIXED;
  if (result != MAP_FAILED && !replaces) count_mapping(pages(size));
  return result;
}

int munmap(void* address, size_t size) noexcept {
  const int result = g_real.munmap(address, size);
  if (result == 0) count_mapping(-pages(size));
  return result;
}

// Variadic to its callers, who pass the fifth argument in the same register, or nothing.
void* mremap(void* address, size_t former, size_t size, int flags, void* wanted) noexcept {
  void* result = g_real.mremap(address, former, size, flags, wanted);
  // Of no bytes of a shared mapping: another one of the same.
  if (result != MAP_FAILED) count_mapping(pages(size) - (flags & MREMAP_DONTUNMAP ? 0 : pages(former)));
  return result;
}

}  // namespace routed

template <typename Function>
bool find(Function*& function, const char* name) noexcept {
  function = reinterpret_cast<Function*>(libc_symbol(name));
  return function != nullptr;
}

bool has_headers() noexcept {
  for (size_t size = 1; size < size_t{1} << 26; size = size * 3 + 1) {
    void* block = g_real.malloc(size);
    const bool same =
        block && size_by_header(block) == static_cast<int64_t>(g_real.malloc_usable_size(block));
    g_real.free(block);
    if (!same) return false;
  }
  return true;
}

template <typename Blocks>
std::array<Route, 14> routes_of() noexcept {
  const auto route = [](const char* name, auto* call) { return Route{name, reinterpret_cast<void*>(call)}; };
  return {route("malloc", &Blocks::malloc),     route("calloc", &Blocks::calloc),
          route("realloc", &Blocks::realloc),   route("reallocarray", &Blocks::reallocarray),
          route("free", &Blocks::free),         route("aligned_alloc", &Blocks::aligned_alloc),
          route("memalign", &Blocks::memalign), route("posix_memalign", &Blocks::posix_memalign),
          route("valloc", &Blocks::valloc),     route("pvalloc", &Blocks::pvalloc),
          route("mmap", &routed::mmap),         route("mmap64", &routed::mmap),
          route("munmap", &routed::munmap),     route("mremap", &routed::mremap)};
}

}  // namespace

int find_real_calls() noexcept {
  if (kSanitized) return ENOTSUP;
  for (const char* name : {"malloc", "calloc", "realloc", "free"})
    if (meant_symbol(name) != libc_symbol(name)) return ENOTSUP;
  const bool found = find(g_real.malloc, "malloc") && find(g_real.calloc, "calloc") &&
                     find(g_real.realloc, "realloc") && find(g_real.free, "free") &&
                     find(g_real.aligned_alloc, "aligned_alloc") && find(g_real.memalign, "memalign") &&
                     find(g_real.posix_memalign, "posix_memalign") && find(g_real.valloc, "valloc") &&
                     find(g_real.pvalloc, "pvalloc") &&
                     find(g_real.malloc_usable_size, "malloc_usable_size") && find(g_real.mmap, "mmap") &&
                     find(g_real.munmap, "munmap") && find(g_real.mremap, "mremap");
  if (!found) return ENOTSUP;
  g_has_headers = has_headers();
  return 0;
}

bool counted_elsewhere() noexcept {
  struct Search {
    struct Call {
      const char* name;
      void *libc, *meant;
    };
    Call calls[4];
    bool found = false;
  } search{{{"malloc"}, {"calloc"}, {"realloc"}, {"free"}}};
  for (auto& call : search.calls) {
    call.libc = libc_symbol(call.name);
    // May be the stub of a program that is not position independent.
    call.meant = dlsym(RTLD_DEFAULT, call.name);
  }
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto& [calls, found] = *static_cast<Search*>(data);
        const auto libc = Image::of_loaded(*info);
        if (!libc.range().contains(reinterpret_cast<uintptr_t>(calls[0].libc))) return 0;
        libc.for_each_slot([&](const engine::interpose::elf::Slot& slot) {
          for (const auto& call : calls) {
            if (slot.symbol != call.name) continue;
            const void* value = __atomic_load_n(reinterpret_cast<void**>(slot.address), __ATOMIC_RELAXED);
            // In libc: not bound yet.
            found = found || (value != call.libc && value != call.meant &&
                              !libc.range().contains(reinterpret_cast<uintptr_t>(value)));
          }
        });
        return 1;
      },
      &search);
  return search.found;
}

std::span<const Route> count_routes() noexcept {
  static const auto kRoutes =
      g_has_headers ? routes_of<Blocks<&size_by_header>>() : routes_of<Blocks<&size_by_call>>();
  return kRoutes;
}

}  // namespace weft::heap
