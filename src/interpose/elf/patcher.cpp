#include "interpose/elf/patcher.hpp"

#include <dlfcn.h>
#include <limits.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <initializer_list>
#include <mutex>
#include <utility>

#include "interpose/elf/libc_symbol.hpp"

// How it works. dl_iterate_phdr lists the loaded objects and holds the loader's list lock meanwhile, so
// nothing is unloaded under our hands. Each object is looked through once; the loader's counters of additions
// and removals tell whether there is anything new at all.
//
// Two things make this harder than it sounds. A library that was unloaded and loaded again stands, as a rule,
// at the same address under the same name: its fresh slots tell it from the object we patched. And the list
// also shows objects that another thread's dlopen has mapped but not relocated: what we would write to them
// is overwritten, and their RELRO pages change protection under our hands. Such an object is left until that
// dlopen is through.
//
// Lock order: lock_, then the loader's list lock. The loader's other lock (dlopen, dlsym) is taken by its
// owner before the list lock, so it must never be taken inside a dl_iterate_phdr callback, nor while lock_ is
// held.

namespace weft::engine::interpose::elf {

namespace {

constexpr std::uintptr_t kPage = 4096;  // x86-64 has no other

std::uintptr_t page_of(std::uintptr_t address) {
  return address & ~(kPage - 1);
}

std::atomic_ref<void*> slot_at(std::uintptr_t address) {
  return std::atomic_ref<void*>(*reinterpret_cast<void**>(address));
}

std::uintptr_t own_code() {
  return reinterpret_cast<std::uintptr_t>(&own_code);
}

// Runs `visit(const dl_phdr_info&) -> bool (go on)` for each object; an exception ends the iteration and
// comes out here, because it may not pass through the loader's frames.
template <class Visitor>
void for_each_object(Visitor&& visit) {
  struct Call {
    Visitor& visit;
    std::exception_ptr error;
  } call{visit, nullptr};
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        auto& c = *static_cast<Call*>(data);
        try {
          return c.visit(*info) ? 0 : 1;
        } catch (...) {
          c.error = std::current_exception();
          return 1;
        }
      },
      &call);
  if (call.error) std::rethrow_exception(call.error);
}

// By the name the loader knows, up to the version: "libc.so.6", "ld-linux-x86-64.so.2".
bool is_named(const Image& image, std::initializer_list<std::string_view> libraries) {
  std::string_view name = image.soname().empty() ? image.name() : image.soname();
  if (const auto slash = name.rfind('/'); slash != name.npos) name.remove_prefix(slash + 1);
  return std::any_of(libraries.begin(), libraries.end(), [&](auto each) { return name.starts_with(each); });
}

bool is_libc(const Image& image) {
  return is_named(image, {"libc.so.", "libpthread.so.", "libdl.so.", "librt.so.", "libm.so."});
}

bool is_runtime_name(const Image& image) {
  return is_libc(image) || is_named(image, {"ld-linux", "linux-vdso", "linux-gate",
                                            // A sanitizer's runtime implements the calls we replace, on top
                                            // of libc.
                                            "libasan.so.", "libtsan.so.", "libubsan.so.", "liblsan.so."});
}

// The pages the loader makes read-only once an object is relocated, rounded as glibc rounds them.
AddressRange relro_pages(const Image& image) {
  return {page_of(image.relro().begin), page_of(image.relro().end)};
}

}  // namespace

Patcher::Object::Object(std::string_view object_name, const Image& image, std::pmr::memory_resource* memory)
    : name(object_name),
      base(image.base()),
      dynamic(image.dynamic()),
      range(image.range()),
      has_tls(image.has_tls()),
      slots(memory),
      left(memory) {}

Patcher::Object::Object(const Object& other, std::pmr::memory_resource* memory)
    : name(other.name),
      base(other.base),
      dynamic(other.dynamic),
      range(other.range),
      has_tls(other.has_tls),
      treatment(other.treatment),
      found(other.found),
      seen(other.seen),
      slots(other.slots, memory),
      left(other.left, memory) {}

struct Patcher::Scan {
  PatchReport& report;
  std::uint64_t number;
  std::uint64_t settled;   // what was found by this scan or an earlier one has been waited for since
  bool started = false;    // the counters have been looked at
  bool unchanged = false;  // and they say there is nothing to do
  bool unloads = false;    // something was unloaded since the last scan
  bool unsettled = false;  // found an object that another thread is loading
  bool have_protections = false;
};

Patcher::Patcher(std::span<const Route> routes, Filter filter, Reach reach)
    : filter_(std::move(filter)), reach_(reach) {
  routes_.assign(routes.begin(), routes.end());
  targets_.reserve(routes_.size());
  for (const Route& route : routes_) {
    const auto target = targets_.try_emplace(route.symbol, Target{&route}).first;
    longest_symbol_ = std::max(longest_symbol_, target->first.size());
  }
  learn();
}

// What never changes while the process lives: where the runtime is, and what each symbol stands for.
void Patcher::learn() {
  for_each_object([&](const dl_phdr_info& info) {
    const Image image = Image::of_loaded(info);
    if (is_runtime_name(image) || image.range().contains(own_code())) runtime_.push_back(image.range());
    if (!image.name().empty()) return true;
    image.for_each_symbol([&](const Symbol& symbol) {
      const auto target = targets_.find(symbol.name);
      if (!symbol.defined && symbol.value && target != targets_.end())
        target->second.stub = reinterpret_cast<void*>(symbol.value);
    });
    return true;
  });
  for (auto& [symbol, target] : targets_) {
    target.in_libc = libc_symbol(target.route->symbol) != nullptr;
    void* meant = dlsym(RTLD_DEFAULT, target.route->symbol);
    target.interposed = target.in_libc && meant && meant != target.stub &&
                        !is_runtime(reinterpret_cast<std::uintptr_t>(meant));
  }
}

bool Patcher::is_runtime(std::uintptr_t address) const noexcept {
  return std::any_of(runtime_.begin(), runtime_.end(),
                     [&](const AddressRange& r) { return r.contains(address); });
}

void* Patcher::found_by_name(const char* symbol, void* address) const {
  const auto target = targets_.find(symbol);  // never changes
  if (target == targets_.end() || !target->second.in_libc || address != libc_symbol(symbol)) return address;
  std::lock_guard guard(lock_);
  return active_ ? target->second.route->replacement : address;
}

PatchReport Patcher::patch() {
  {
    std::lock_guard guard(lock_);
    active_ = true;
  }
  return rescan();
}

PatchReport Patcher::rescan() {
  PatchReport report;
  std::uint64_t settled = 0;
  for (;;) {
    std::uint64_t number = 0;
    {
      std::lock_guard guard(lock_);
      if (!active_ || !scan(report, settled)) return report;
      number = scans_;
    }
    // The other thread holds the loader's lock from mapping until its constructors have run; dlopen waits for
    // it. Not under lock_: one of those constructors may call us.
    if (void* program = dlopen(nullptr, RTLD_LAZY)) dlclose(program);
    settled = number;
  }
}

// Returns whether an object was left because another thread is loading it.
bool Patcher::scan(PatchReport& report, std::uint64_t settled) {
  Scan scan{report, ++scans_, settled};
  for_each_object([&](const dl_phdr_info& info) {
    if (!scan.started) {
      scan.started = true;
      scan.unchanged = complete_ && info.dlpi_adds == adds_ && info.dlpi_subs == subs_;
      scan.unloads = info.dlpi_subs != subs_;
      // Set before the work, so that a scan cut short by an exception is done again.
      complete_ = false;
      adds_ = info.dlpi_adds;
      subs_ = info.dlpi_subs;
    }
    return !scan.unchanged && visit(Image::of_loaded(info), scan);
  });
  if (!scan.unchanged) {
    report.forgotten +=
        std::erase_if(objects_, [&](const auto& entry) { return entry.second.seen != scan.number; });
  }
  complete_ = !scan.unsettled;
  return scan.unsettled;
}

bool Patcher::visit(const Image& image, Scan& scan) {
  if (image.range().empty()) return true;
  const auto known = objects_.find(image.range().begin);
  if (known != objects_.end()) {
    Object& object = known->second;
    if (still_loaded(object, image, scan.unloads)) {
      object.seen = scan.number;
      if (object.treatment == Treatment::kUnsettled) {
        look_through(image, object, scan, object.found <= scan.settled);
      } else {
        rewrite_lazily_bound(object);
      }
      return true;
    }
    if (!object.slots.empty()) ++scan.report.forgotten;
    objects_.erase(known);
  }
  Object& object = objects_.try_emplace(image.range().begin, name_of(image), image, &memory_).first->second;
  object.found = object.seen = scan.number;
  look_through(image, object, scan, false);
  return true;
}

// Whether it is the object we know, not another load of the same library at the same place: that would have
// fresh slots. An object without slots cannot be told, and need not be.
bool Patcher::still_loaded(const Object& object, const Image& image, bool unloads) const noexcept {
  if (object.base != image.base() || object.dynamic != image.dynamic() ||
      object.range.end != image.range().end)
    return false;
  if (!image.name().empty() && object.name != image.name()) return false;
  if (!unloads) return true;
  if (object.treatment == Treatment::kOwn || object.treatment == Treatment::kRuntime) return true;
  return std::any_of(object.slots.begin(), object.slots.end(), [&](const PatchedSlot& slot) {
    return image.writable(slot.address) &&
           slot_at(slot.address).load(std::memory_order_relaxed) == slot.route->replacement;
  });
}

// `settled`: its loading has been waited for, whatever its pages look like.
void Patcher::look_through(const Image& image, Object& object, Scan& scan, bool settled) {
  const bool whole = reach_ == Reach::kWhole;
  if (!whole && image.range().contains(own_code())) {
    object.treatment = Treatment::kOwn;
  } else if (is_runtime_name(image) && !(whole && is_libc(image))) {
    object.treatment = Treatment::kRuntime;
  } else {
    know_protections(image, scan.have_protections);
    // RELRO pages are writable until the object is relocated. If they still are when its dlopen is through,
    // another tool has opened them.
    const AddressRange relro = relro_pages(image);
    const bool relocating = !relro.empty() && protections_.at(relro.begin).value_or(0) & PROT_WRITE;
    if ((!settled && relocating) || !collect(image, object, settled)) {
      object.slots.clear();  // stays kUnsettled
      scan.unsettled = true;
      return;
    }
    const std::size_t failed = write_slots(object.slots, [](const PatchedSlot& slot) {
      slot_at(slot.address).store(slot.route->replacement, std::memory_order_release);
    });
    const std::size_t written = object.slots.size() - failed;
    object.treatment = Treatment::kPatched;
    scan.report.failed += failed;
    scan.report.slots += written;
    for (const PatchedSlot& slot : std::span(object.slots).subspan(written))
      object.left.push_back({slot.route, LeftAlone::kFailed});
    object.slots.resize(written);
  }
  ++scan.report.objects;
}

void Patcher::know_protections(const Image& image, bool& known) {
  if (!known) known = protections_.read();
  if (!known) protections_.assume(image);
}

// Fills in the object's slots and what is left alone. False if the object is not relocated yet.
bool Patcher::collect(const Image& image, Object& object, bool settled) {
  object.slots.clear();
  object.left.clear();
  bool relocated = true;
  const auto wanted = [this](std::string_view symbol) {
    return symbol.size() <= longest_symbol_ && targets_.contains(symbol);
  };
  image.for_each_slot(wanted, [&](const Slot& slot) {
    const Target& target = targets_.find(slot.symbol)->second;
    void* value = slot_at(slot.address).load(std::memory_order_relaxed);
    // A lazily bound slot holds a link-time address until its object is relocated.
    const auto raw = reinterpret_cast<std::uintptr_t>(value);
    if (!settled && raw != 0 && raw < object.base && raw < object.range.end - object.range.begin)
      relocated = false;
    const auto reason = reason_to_leave(slot, value, target, object, image.name().empty());
    if (!reason) {
      object.slots.push_back({slot.address, value, target.route});
    } else if (std::none_of(object.left.begin(), object.left.end(), [&](const LeftSymbol& l) {
                 return l.route == target.route && l.reason == *reason;
               })) {
      object.left.push_back({target.route, *reason});
    }
  });
  // Relocation tables may overlap; a slot is written once.
  const auto by_address = [](const PatchedSlot& a, const PatchedSlot& b) { return a.address < b.address; };
  const auto same = [](const PatchedSlot& a, const PatchedSlot& b) { return a.address == b.address; };
  std::sort(object.slots.begin(), object.slots.end(), by_address);
  object.slots.erase(std::unique(object.slots.begin(), object.slots.end(), same), object.slots.end());
  return relocated;
}

std::optional<LeftAlone> Patcher::reason_to_leave(const Slot& slot, void* value, const Target& target,
                                                  const Object& object, bool program) const {
  if (!value) return LeftAlone::kUnresolved;
  const auto leads_to = reinterpret_cast<std::uintptr_t>(value);
  if (value != target.route->replacement && value != target.stub && target.in_libc && !is_runtime(leads_to)) {
    if (!object.range.contains(leads_to)) return LeftAlone::kInterposed;
    if (slot.defined) return LeftAlone::kOwnDefinition;
    if (target.interposed) return LeftAlone::kInterposed;
  }
  if (filter_ && !filter_(Site{object.name, *target.route, program})) return LeftAlone::kFiltered;
  return std::nullopt;
}

// Calls write(slot) for each, with its page writable meanwhile and protected as before afterwards. Moves the
// slots whose pages could not be made writable to the end, and returns their number. REQUIRES: slots are
// ordered by address; protections_ is fresh.
template <class Write>
std::size_t Patcher::write_slots(std::span<PatchedSlot> slots, Write&& write) {
  std::size_t failed = 0;
  std::size_t i = 0;
  while (i < slots.size() - failed) {
    // One run: slots on neighbouring pages of the same protection.
    const std::uintptr_t begin = page_of(slots[i].address);
    const auto protection = protections_.at(begin);
    std::size_t last = i;
    std::uintptr_t end = begin + kPage;
    while (last + 1 < slots.size() - failed && page_of(slots[last + 1].address) <= end &&
           protections_.at(page_of(slots[last + 1].address)) == protection) {
      end = page_of(slots[++last].address) + kPage;
    }
    const std::size_t count = last + 1 - i;
    void* pages = reinterpret_cast<void*>(begin);
    const bool closed = !protection || !(*protection & PROT_WRITE);
    if (closed && (!protection || mprotect(pages, end - begin, *protection | PROT_WRITE) != 0)) {
      std::rotate(slots.begin() + i, slots.begin() + i + count, slots.end());
      failed += count;
      continue;
    }
    for (const PatchedSlot& slot : slots.subspan(i, count)) write(slot);
    if (closed) mprotect(pages, end - begin, *protection);
    i += count;
  }
  return failed;
}

// A thread that was resolving a slot while it was patched has stored libc's address over the replacement.
void Patcher::rewrite_lazily_bound(Object& object) {
  for (const PatchedSlot& slot : object.slots) {
    if (!object.range.contains(reinterpret_cast<std::uintptr_t>(slot.previous))) continue;
    void* value = slot_at(slot.address).load(std::memory_order_relaxed);
    // Only such slots can have changed so, and those are in pages that stay writable.
    if (value != slot.route->replacement && is_runtime(reinterpret_cast<std::uintptr_t>(value)))
      slot_at(slot.address)
          .compare_exchange_strong(value, slot.route->replacement, std::memory_order_release);
  }
}

PatchReport Patcher::refilter() {
  PatchReport report;
  {
    std::lock_guard guard(lock_);
    Scan scan{report, scans_, scans_};
    if (active_)
      for_each_object([&](const dl_phdr_info& info) {
        const Image image = Image::of_loaded(info);
        const auto known = objects_.find(image.range().begin);
        if (known != objects_.end() && known->second.treatment == Treatment::kPatched &&
            still_loaded(known->second, image, info.dlpi_subs != subs_))
          refilter(image, known->second, scan);
        return true;
      });
  }
  const PatchReport added = patch();
  report.objects += added.objects;
  report.slots += added.slots;
  report.forgotten += added.forgotten;
  report.failed += added.failed;
  return report;
}

void Patcher::refilter(const Image& image, Object& object, Scan& scan) {
  know_protections(image, scan.have_protections);
  std::pmr::vector<PatchedSlot> former(std::move(object.slots), &memory_);
  collect(image, object, true);
  // Both lists are ordered by address: what stands in one only is put back, or written.
  std::pmr::vector<PatchedSlot> gone(&memory_), fresh(&memory_);
  auto old = former.begin();
  for (PatchedSlot& slot : object.slots) {
    for (; old != former.end() && old->address < slot.address; ++old) gone.push_back(*old);
    if (old != former.end() && old->address == slot.address)
      slot.previous = (old++)->previous;
    else
      fresh.push_back(slot);
  }
  gone.insert(gone.end(), old, former.end());
  write_slots(gone, [](const PatchedSlot& slot) {
    void* expected = slot.route->replacement;
    slot_at(slot.address).compare_exchange_strong(expected, slot.previous, std::memory_order_acq_rel);
  });
  scan.report.failed += write_slots(fresh, [](const PatchedSlot& slot) {
    slot_at(slot.address).store(slot.route->replacement, std::memory_order_release);
  });
  scan.report.slots += fresh.size();
}

RestoreReport Patcher::restore() {
  RestoreReport report;
  PageResource pages;
  std::pmr::monotonic_buffer_resource memory(&pages);
  std::pmr::vector<std::pair<std::string_view, std::string_view>> foreign(&memory);
  {
    std::lock_guard guard(lock_);
    bool have_protections = false;
    for_each_object([&](const dl_phdr_info& info) {
      const Image image = Image::of_loaded(info);
      const auto known = objects_.find(image.range().begin);
      if (known == objects_.end() || known->second.slots.empty()) return true;
      Object& object = known->second;
      if (!still_loaded(object, image, info.dlpi_subs != subs_)) return true;
      know_protections(image, have_protections);
      report.failed += write_slots(object.slots, [&](const PatchedSlot& slot) {
        void* expected = slot.route->replacement;
        if (slot_at(slot.address)
                .compare_exchange_strong(expected, slot.previous, std::memory_order_acq_rel)) {
          ++report.slots;
        } else {
          foreign.emplace_back(object.name, slot.route->symbol);
        }
      });
      return true;
    });
    objects_.clear();
    active_ = complete_ = false;
  }
  for (const auto& [object, symbol] : foreign)
    report.foreign.push_back({std::string(object), std::string(symbol)});
  return report;
}

std::string_view Patcher::object_of(const void* address) const noexcept {
  const auto place = reinterpret_cast<std::uintptr_t>(address);
  std::lock_guard guard(lock_);
  const auto after = objects_.upper_bound(place);
  if (after == objects_.begin() || !std::prev(after)->second.range.contains(place)) return {};
  return std::prev(after)->second.name;
}

std::vector<ObjectInventory> Patcher::inventory() const {
  // Copied under the lock into memory of our own, and from there into the caller's kind without it.
  PageResource pages;
  std::pmr::monotonic_buffer_resource memory(&pages);
  std::pmr::vector<Object> objects(&memory);
  {
    std::lock_guard guard(lock_);
    objects.reserve(objects_.size());
    for (const auto& [begin, object] : objects_) objects.emplace_back(object, &memory);
  }
  std::vector<ObjectInventory> inventory;
  inventory.reserve(objects.size());
  for (const Object& object : objects) {
    ObjectInventory entry{std::string(object.name), object.range, object.treatment, object.has_tls, {}, {}};
    std::map<std::string_view, ObjectInventory::Routed> routed;
    for (const PatchedSlot& slot : object.slots) {
      const Route& route = *slot.route;
      ++routed.try_emplace(route.symbol, ObjectInventory::Routed{route.symbol, route.family, route.flags, 0})
            .first->second.slots;
    }
    for (const auto& [symbol, line] : routed) entry.routed.push_back(line);
    for (const LeftSymbol& left : object.left) entry.left.push_back({left.route->symbol, left.reason});
    std::sort(entry.left.begin(), entry.left.end(),
              [](const auto& a, const auto& b) { return a.symbol < b.symbol; });
    inventory.push_back(std::move(entry));
  }
  return inventory;
}

// The loader gives the program no name.
std::string_view Patcher::name_of(const Image& image) {
  char path[PATH_MAX];
  std::string_view name = image.name();
  if (name.empty()) {
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
    name = length > 0 ? std::string_view(path, length) : "the program";
  }
  return *names_.emplace(name).first;
}

}  // namespace weft::engine::interpose::elf
