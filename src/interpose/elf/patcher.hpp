#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory_resource>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "interpose/elf/image.hpp"
#include "interpose/elf/page_resource.hpp"
#include "interpose/elf/protections.hpp"
#include "interpose/elf/spin_lock.hpp"

namespace weft::engine::interpose::elf {

// "Calls of `symbol` go to `replacement`." The family and flags mean nothing to the patcher; they are for its
// callers.
struct Route {
  const char* symbol;
  void* replacement;
  std::uint32_t family = 0;
  std::uint32_t flags = 0;
};

// What a filter is asked about: may the calls that `object` makes of `route.symbol` be routed?
struct Site {
  std::string_view object;  // its path; the program's own path for the program
  const Route& route;
  bool program;  // the object is the program itself, not a library
};

// Why a symbol that has a route was left alone in an object.
enum class LeftAlone {
  kFiltered,       // the filter said no
  kOwnDefinition,  // the object's own function of that name is meant, not libc's
  kInterposed,     // another object's function of that name is meant: a preloaded wrapper, the program's own
  kUnresolved,     // a weak reference that is null: the program tests for it
  kFailed,         // the page could not be made writable
};

// Which objects are patched.
enum class Reach {
  kProgram,  // the program and its libraries
  // With them libc and its kin (libm, libpthread, ...), which call some of their functions through slots as
  // well, and the object this patcher's code is in. The replacements must then reach what they stand for by
  // pointers of their own.
  kWhole,
};

enum class Treatment {
  kPatched,   // looked through; it may have no routed symbol at all
  kOwn,       // the object this patcher's code is in, where that is left alone
  kRuntime,   // the loader, the vDSO, a sanitizer; and libc, unless all is patched
  kUnsettled  // another thread is just loading it; looked through as soon as that is done
};

struct PatchReport {
  std::size_t objects = 0;    // newly looked through
  std::size_t slots = 0;      // newly patched
  std::size_t forgotten = 0;  // objects found unloaded
  std::size_t failed = 0;     // slots that could not be written
};

struct RestoreReport {
  struct Foreign {
    std::string object;
    std::string symbol;
  };
  std::size_t slots = 0;         // put back
  std::vector<Foreign> foreign;  // left as they are: another tool has written to them since
  std::size_t failed = 0;        // could not be written, so still routed
};

struct ObjectInventory {
  struct Routed {
    std::string_view symbol;
    std::uint32_t family;
    std::uint32_t flags;
    std::size_t slots;
  };
  struct Left {
    std::string_view symbol;
    LeftAlone reason;
  };
  std::string name;
  AddressRange range;
  Treatment treatment;
  bool has_tls;
  std::vector<Routed> routed;  // by symbol
  std::vector<Left> left;      // by symbol
};

// Rewrites the slots through which the objects of this process call libc, so that they call replacements, and
// puts them back. Sees the objects of its own link-map namespace (dlmopen's others stay untouched).
//
// Thread-safe and fiber-safe: no operation parks. Operations that take the loader's lock say so; those must
// not be called from a dl_iterate_phdr callback. Uses neither malloc nor pthread locks while it holds a lock,
// so it works in a library's constructor and with a patched allocator. Slots are written as one 8-byte store
// each: other threads call the old function or the new one.
//
// One race remains: a thread that is just resolving a lazily bound slot may store libc's address over the
// replacement. The next patch() or rescan() that finds new objects puts the replacement back; programs
// started with LD_BIND_NOW have no such slots.
class Patcher {
 public:
  // Whether to route; called with locks held, so it must not block, load objects or call back into the
  // patcher.
  using Filter = std::function<bool(const Site&)>;

  // Patches nothing yet, but takes the loader's locks to find out what each symbol stands for. Of two routes
  // with the same symbol the first counts.
  //
  // REQUIRES: symbols and replacements stay valid; the patcher outlives every patched slot (restore() first).
  // No two patchers that are in force together have a symbol in common.
  explicit Patcher(std::span<const Route> routes, Filter filter = {}, Reach reach = Reach::kProgram);
  Patcher(const Patcher&) = delete;
  Patcher& operator=(const Patcher&) = delete;

  // Patches all objects not looked through yet, and forgets unloaded ones. Costs one look at a counter when
  // nothing was loaded or unloaded since. Takes the loader's lock; waits for another thread's dlopen if that
  // has an object half loaded. Throws std::bad_alloc.
  PatchReport patch();

  // patch(), if patches are in force (between patch() and restore()); else nothing. For after dlopen and
  // dlclose.
  PatchReport rescan();

  // The filter answers differently from now on: puts back what is not to be routed any more, and routes what
  // now is; slots that stay as they are are not touched in between. As patch() for objects that are new.
  // Takes the loader's lock. Throws std::bad_alloc.
  PatchReport refilter();

  // Puts every slot back that still holds a replacement, a lazily bound one as it was before. Takes the
  // loader's lock.
  RestoreReport restore();

  // What a lookup of `symbol` that found `address` is to answer: the replacement if patches are in force and
  // that is libc's own function, else `address`. Asks no filter.
  void* found_by_name(const char* symbol, void* address) const;

  // The path of the object that contains `address`; empty if no known one does. The characters live as long
  // as the patcher. Does not take the loader's lock.
  std::string_view object_of(const void* address) const noexcept;

  // What was done where, by address. Does not take the loader's lock.
  std::vector<ObjectInventory> inventory() const;

  // Around fork(), so that the child does not inherit the lock taken by a thread it does not have.
  void before_fork() noexcept { lock_.lock(); }
  void after_fork() noexcept { lock_.unlock(); }  // in parent and child

 private:
  struct PatchedSlot {
    std::uintptr_t address;
    void* previous;
    const Route* route;
  };
  struct LeftSymbol {
    const Route* route;
    LeftAlone reason;
  };
  struct Object {
    Object(std::string_view object_name, const Image& image, std::pmr::memory_resource* memory);
    Object(const Object& other, std::pmr::memory_resource* memory);

    std::string_view name;
    std::uintptr_t base;
    std::uintptr_t dynamic;
    AddressRange range;
    bool has_tls;
    Treatment treatment = Treatment::kUnsettled;  // until it is looked through
    std::uint64_t found;                          // number of the scan that first found it
    std::uint64_t seen = 0;                       // number of the scan that last found it
    std::pmr::vector<PatchedSlot> slots;          // by address
    std::pmr::vector<LeftSymbol> left;
  };
  struct Target {
    const Route* route;
    // The program's stub that stands for the function in the whole process, if it is not position
    // independent.
    void* stub = nullptr;
    bool in_libc = false;     // so a slot that leads elsewhere means something else
    bool interposed = false;  // a slot that is not resolved yet will lead elsewhere
  };
  struct Scan;

  void learn();
  bool scan(PatchReport& report, std::uint64_t settled);
  bool visit(const Image& image, Scan& scan);
  void look_through(const Image& image, Object& object, Scan& scan, bool settled);
  void refilter(const Image& image, Object& object, Scan& scan);
  void know_protections(const Image& image, bool& known);
  bool collect(const Image& image, Object& object, bool settled);
  std::optional<LeftAlone> reason_to_leave(const Slot& slot, void* value, const Target& target,
                                           const Object& object, bool program) const;
  template <class Write>
  std::size_t write_slots(std::span<PatchedSlot> slots, Write&& write);
  bool still_loaded(const Object& object, const Image& image, bool unloads) const noexcept;
  bool is_runtime(std::uintptr_t address) const noexcept;
  void rewrite_lazily_bound(Object& object);
  std::string_view name_of(const Image& image);

  const Filter filter_;
  const Reach reach_;
  mutable SpinLock lock_;

  // All below is guarded by lock_.
  PageResource pages_;
  mutable std::pmr::unsynchronized_pool_resource memory_{&pages_};
  std::pmr::vector<Route> routes_{&memory_};
  std::pmr::unordered_map<std::string_view, Target> targets_{&memory_};  // by symbol; point into routes_
  std::size_t longest_symbol_ = 0;                    // most C++ names are longer, and need no look-up
  std::pmr::vector<AddressRange> runtime_{&memory_};  // never unloaded
  std::pmr::set<std::pmr::string, std::less<>> names_{
      &memory_};                                             // never shrinks: object_of gives out its strings
  std::pmr::map<std::uintptr_t, Object> objects_{&memory_};  // by the address they begin at
  Protections protections_{&memory_};
  bool active_ = false;
  bool complete_ = false;  // the last scan left nothing over
  std::uint64_t scans_ = 0;
  unsigned long long adds_ = 0;  // the loader's counters at the last scan
  unsigned long long subs_ = 0;
};

}  // namespace weft::engine::interpose::elf
