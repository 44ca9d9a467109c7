// The patcher and its tests are in this program, so what is patched here are the fixture libraries;
// elf_inside_test.cpp has the other view.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <latch>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "interpose/elf/patcher.hpp"

#ifdef __SANITIZE_THREAD__
// The list of objects is written, read and freed under the loader's lock, which ThreadSanitizer does not see.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_suppressions() {
  return "race:dl_iterate_phdr\nrace:_dl_close_worker\n";
}
#endif

namespace {

using namespace weft::engine::interpose::elf;
using Function = int();

constexpr int kRouted = 4242;
int routed() {
  return kRouted;
}
int other_tool() {
  return 99;
}

const Route kRoutes[] = {{"getppid", reinterpret_cast<void*>(routed), 3, 8},
                         {"getsid", reinterpret_cast<void*>(routed)},
                         {"weft_nowhere_defined", reinterpret_cast<void*>(routed)}};

class Library {
 public:
  explicit Library(const char* path, int mode = RTLD_LAZY) : handle_(dlopen(path, mode | RTLD_LOCAL)) {
    EXPECT_TRUE(handle_) << dlerror();
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  ~Library() { close(); }
  void close() {
    if (handle_) dlclose(handle_);
    handle_ = nullptr;
  }
  int call(const char* name) const { return function(name)(); }
  Function* function(const char* name) const { return reinterpret_cast<Function*>(dlsym(handle_, name)); }

 private:
  void* handle_;
};

// The process's mappings of a file, line by line.
std::string mappings_of(std::string_view path) {
  std::ifstream maps("/proc/self/maps");
  std::string all;
  for (std::string line; std::getline(maps, line);)
    if (line.find(path) != line.npos) all += line + "\n";
  return all;
}

// The slots of a library's symbol, found without the patcher.
std::vector<void**> slots_of(const char* path, std::string_view symbol) {
  struct Search {
    std::string_view path, symbol;
    std::vector<void**> found;
  } search{path, symbol, {}};
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        auto& s = *static_cast<Search*>(data);
        if (info->dlpi_name != s.path) return 0;
        Image::of_loaded(*info).for_each_slot([&](const Slot& slot) {
          if (slot.symbol == s.symbol) s.found.push_back(reinterpret_cast<void**>(slot.address));
        });
        return 1;
      },
      &search);
  return search.found;
}

const ObjectInventory* find(const std::vector<ObjectInventory>& inventory, std::string_view name) {
  for (const ObjectInventory& object : inventory)
    if (object.name.find(name) != object.name.npos) return &object;
  return nullptr;
}

std::optional<LeftAlone> reason(const ObjectInventory& object, std::string_view symbol) {
  for (const ObjectInventory::Left& left : object.left)
    if (left.symbol == symbol) return left.reason;
  return std::nullopt;
}

bool asleep(pid_t thread) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/stat");
  std::string stat;
  std::getline(file, stat);  // nothing where it has just ended; an iterator over the file would throw then
  const auto name_end = stat.rfind(')');
  return name_end != stat.npos && stat.compare(name_end, 3, ") S") == 0;
}

class ElfPatcher : public testing::Test {
 protected:
  void TearDown() override { patcher.restore(); }
  Patcher patcher{kRoutes};
};

TEST_F(ElfPatcher, PatchesLazilyBoundCalls) {
  Library library(WEFT_FIXTURE_LAZY);
  const auto slots = slots_of(WEFT_FIXTURE_LAZY, "getppid");
  ASSERT_EQ(slots.size(), 1u);
  void* const stub = *slots[0];
  patcher.patch();
  EXPECT_EQ(library.call("call_getppid"), kRouted);
  patcher.restore();
  EXPECT_EQ(*slots[0], stub) << "the unresolved slot must be put back as it was";
  EXPECT_EQ(library.call("call_getppid"), getppid());
  EXPECT_NE(*slots[0], stub) << "the premise: lazy binding";
}

TEST_F(ElfPatcher, PatchesReadOnlyRelocatedCalls) {
  Library library(WEFT_FIXTURE_NOW);
  patcher.patch();
  EXPECT_EQ(library.call("call_getppid"), kRouted);
  patcher.restore();
  EXPECT_EQ(library.call("call_getppid"), getppid());
}

TEST_F(ElfPatcher, PatchesPointersInStaticData) {
  Library library(WEFT_FIXTURE_POINTER);
  patcher.patch();
  for (const char* name : {"call_writable_pointer", "call_read_only_pointer", "call_getppid"})
    EXPECT_EQ(library.call(name), kRouted) << name;
  const auto inventory = patcher.inventory();
  const ObjectInventory* object = find(inventory, "elf_fixture_pointer");
  ASSERT_TRUE(object);
  ASSERT_EQ(object->routed.size(), 1u);
  EXPECT_EQ(object->routed[0].symbol, "getppid");
  EXPECT_EQ(object->routed[0].slots, 3u);
  EXPECT_EQ(object->routed[0].family, 3u);
  EXPECT_EQ(object->routed[0].flags, 8u);
  EXPECT_TRUE(object->has_tls);
  patcher.restore();
  for (const char* name : {"call_writable_pointer", "call_read_only_pointer", "call_getppid"})
    EXPECT_EQ(library.call(name), getppid()) << name;
}

TEST_F(ElfPatcher, PageProtectionIsAsBefore) {
  for (const char* path : {WEFT_FIXTURE_LAZY, WEFT_FIXTURE_NOW, WEFT_FIXTURE_POINTER}) {
    Library library(path);
    const std::string before = mappings_of(path);
    const PatchReport report = patcher.patch();
    EXPECT_GE(report.slots, 1u);
    EXPECT_EQ(report.failed, 0u);
    EXPECT_EQ(mappings_of(path), before);
    patcher.restore();
    EXPECT_EQ(mappings_of(path), before);
  }
}

// Another tool may have left a RELRO page writable: so it stays. (Its dlopen is through, so it is patched all
// the same.)
TEST_F(ElfPatcher, UnusualProtectionIsKept) {
  Library library(WEFT_FIXTURE_NOW);
  const auto slots = slots_of(WEFT_FIXTURE_NOW, "getppid");
  ASSERT_EQ(slots.size(), 1u);
  void* page = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(slots[0]) & ~std::uintptr_t{4095});
  ASSERT_EQ(mprotect(page, 4096, PROT_READ | PROT_WRITE), 0);
  const std::string before = mappings_of(WEFT_FIXTURE_NOW);
  patcher.patch();
  EXPECT_EQ(library.call("call_getppid"), kRouted);
  EXPECT_EQ(mappings_of(WEFT_FIXTURE_NOW), before);
}

TEST_F(ElfPatcher, LeavesOwnDefinitionsAndWeakReferencesAlone) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers refuse RTLD_DEEPBIND";
#endif
  // Otherwise libc's function of that name would come first.
  Library library(WEFT_FIXTURE_POINTER, RTLD_NOW | RTLD_DEEPBIND);
  patcher.patch();
  EXPECT_EQ(library.call("call_own_getsid"), -77);
  EXPECT_EQ(library.call("has_nowhere_defined"), 0);
  const auto inventory = patcher.inventory();
  const ObjectInventory* object = find(inventory, "elf_fixture_pointer");
  ASSERT_TRUE(object);
  EXPECT_EQ(reason(*object, "getsid"), LeftAlone::kOwnDefinition);
  EXPECT_EQ(reason(*object, "weft_nowhere_defined"), LeftAlone::kUnresolved);
}

TEST_F(ElfPatcher, RuntimeAndOwnObjectsAreNotPatched) {
  patcher.patch();
  const auto inventory = patcher.inventory();
  ASSERT_TRUE(find(inventory, "libc.so.6"));
  EXPECT_EQ(find(inventory, "libc.so.6")->treatment, Treatment::kRuntime);
  EXPECT_EQ(find(inventory, "ld-linux")->treatment, Treatment::kRuntime);
  EXPECT_EQ(find(inventory, "elf_patcher_test")->treatment, Treatment::kOwn);
  EXPECT_EQ(find(inventory, "libstdc++")->treatment, Treatment::kPatched);
}

// libc calls free() by a slot of its own, so that a program can bring its own.
TEST(ElfPatcherReach, RuntimeAndOwnObjectsArePatchedWhereAskedFor) {
  static auto* const real_free = reinterpret_cast<void (*)(void*)>(dlsym(RTLD_NEXT, "free"));
  static std::atomic<int> freed;
  const Route routes[] = {kRoutes[0], {"free", reinterpret_cast<void*>(+[](void* block) {
                                         ++freed;
                                         real_free(block);
                                       })}};
  FILE* file = fopen("/dev/null", "r");
  ASSERT_TRUE(file);
  Patcher patcher(routes, {}, Reach::kWhole);
  patcher.patch();
  EXPECT_EQ(getppid(), kRouted);
  freed = 0;
  fclose(file);
  EXPECT_GT(freed.load(), 0);
  const auto inventory = patcher.inventory();
  EXPECT_EQ(find(inventory, "elf_patcher_test")->treatment, Treatment::kPatched);
  EXPECT_EQ(find(inventory, "libc.so")->treatment, Treatment::kPatched);
  EXPECT_EQ(find(inventory, "ld-linux")->treatment, Treatment::kRuntime);
  patcher.restore();
  EXPECT_NE(getppid(), kRouted);
  freed = 0;
  fclose(fopen("/dev/null", "r"));
  EXPECT_EQ(freed.load(), 0);
}

TEST(ElfPatcherFilter, IsAskedForObjectAndSymbol) {
  Library lazy(WEFT_FIXTURE_LAZY), now(WEFT_FIXTURE_NOW);
  Patcher patcher(kRoutes, [](const Site& site) {
    EXPECT_FALSE(site.program);
    return site.route.family != 3 || site.object.find("elf_fixture_now") == site.object.npos;
  });
  patcher.patch();
  EXPECT_EQ(lazy.call("call_getppid"), kRouted);
  EXPECT_EQ(now.call("call_getppid"), getppid());
  const auto inventory = patcher.inventory();
  EXPECT_EQ(reason(*find(inventory, "elf_fixture_now"), "getppid"), LeftAlone::kFiltered);
  patcher.restore();
}

TEST_F(ElfPatcher, RescanPatchesOnlyWhatIsNew) {
  Library first(WEFT_FIXTURE_LAZY);
  patcher.patch();
  EXPECT_EQ(patcher.rescan().objects, 0u);
  Library second(WEFT_FIXTURE_NOW);
  EXPECT_EQ(second.call("call_getppid"), getppid());
  const PatchReport report = patcher.rescan();
  EXPECT_EQ(report.objects, 1u);
  EXPECT_EQ(report.slots, 1u);
  EXPECT_EQ(second.call("call_getppid"), kRouted);
}

TEST_F(ElfPatcher, RescanDoesNothingUnlessPatched) {
  Library library(WEFT_FIXTURE_LAZY);
  EXPECT_EQ(patcher.rescan().slots, 0u);
  EXPECT_EQ(library.call("call_getppid"), getppid());
  patcher.patch();
  patcher.restore();
  EXPECT_EQ(patcher.rescan().slots, 0u);
  EXPECT_EQ(library.call("call_getppid"), getppid());
}

TEST_F(ElfPatcher, ForgetsUnloadedObjects) {
  Library library(WEFT_FIXTURE_RELOAD);
  patcher.patch();
  ASSERT_TRUE(find(patcher.inventory(), "elf_fixture_reload"));
  library.close();
  EXPECT_EQ(patcher.rescan().forgotten, 1u);
  EXPECT_FALSE(find(patcher.inventory(), "elf_fixture_reload"));
}

TEST_F(ElfPatcher, RestoreAfterUnloadWithoutRescan) {
  Library library(WEFT_FIXTURE_RELOAD);
  patcher.patch();
  library.close();
  EXPECT_TRUE(patcher.restore().foreign.empty());
}

TEST_F(ElfPatcher, PatchesAgainWhatIsReloadedAtTheSameAddress) {
  auto library = std::make_unique<Library>(WEFT_FIXTURE_RELOAD);
  const auto address = slots_of(WEFT_FIXTURE_RELOAD, "getppid");
  patcher.patch();
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(library->call("call_getppid"), kRouted);
    library.reset();
    library = std::make_unique<Library>(WEFT_FIXTURE_RELOAD);
    ASSERT_EQ(slots_of(WEFT_FIXTURE_RELOAD, "getppid"), address) << "the premise: the same address";
    const PatchReport report = patcher.rescan();
    EXPECT_EQ(report.forgotten, 1u);
    EXPECT_EQ(report.slots, 1u);
  }
  EXPECT_EQ(library->call("call_getppid"), kRouted);
  patcher.restore();
  EXPECT_EQ(library->call("call_getppid"), getppid());
}

// What another object's unloading must not do to a patched one: count it as new.
TEST_F(ElfPatcher, UnloadingOneObjectKeepsTheOthers) {
  Library library(WEFT_FIXTURE_LAZY);
  void* const stub = *slots_of(WEFT_FIXTURE_LAZY, "getppid").at(0);
  Library unloaded(WEFT_FIXTURE_RELOAD);
  patcher.patch();
  unloaded.close();
  EXPECT_EQ(patcher.rescan().slots, 0u);
  patcher.restore();
  EXPECT_EQ(*slots_of(WEFT_FIXTURE_LAZY, "getppid").at(0), stub);
}

TEST_F(ElfPatcher, RestoreLeavesForeignValuesAndReportsThem) {
  Library library(WEFT_FIXTURE_POINTER);
  patcher.patch();
  Function* const other = other_tool;
  void** writable = nullptr;
  Protections protections(std::pmr::new_delete_resource());
  ASSERT_TRUE(protections.read());
  for (void** slot : slots_of(WEFT_FIXTURE_POINTER, "getppid"))
    if (protections.at(reinterpret_cast<std::uintptr_t>(slot)).value() & PROT_WRITE) writable = slot;
  ASSERT_TRUE(writable);
  *writable = reinterpret_cast<void*>(other);
  const RestoreReport report = patcher.restore();
  ASSERT_EQ(report.foreign.size(), 1u);
  EXPECT_EQ(report.foreign[0].symbol, "getppid");
  EXPECT_NE(report.foreign[0].object.find("elf_fixture_pointer"), std::string::npos);
  EXPECT_EQ(*writable, reinterpret_cast<void*>(other));
}

TEST_F(ElfPatcher, LeavesSlotsAloneThatLeadElsewhere) {
  Library library(WEFT_FIXTURE_LAZY), tool(WEFT_FIXTURE_POINTER);
  void* const hook = reinterpret_cast<void*>(tool.function("has_nowhere_defined"));
  void** const slot = slots_of(WEFT_FIXTURE_LAZY, "getppid").at(0);
  *slot = hook;
  patcher.patch();
  EXPECT_EQ(*slot, hook);
  const auto inventory = patcher.inventory();
  EXPECT_EQ(reason(*find(inventory, "elf_fixture_lazy"), "getppid"), LeftAlone::kInterposed);
}

// A thread that was inside the loader's resolver while its slot was patched stores libc's address there.
TEST_F(ElfPatcher, LateLazyBindingIsUndoneByTheNextScan) {
  Library library(WEFT_FIXTURE_LAZY);
  patcher.patch();
  void** slot = slots_of(WEFT_FIXTURE_LAZY, "getppid").at(0);
  *slot = dlsym(RTLD_DEFAULT, "getppid");
  Library other(WEFT_FIXTURE_RELOAD);
  patcher.rescan();
  EXPECT_EQ(library.call("call_getppid"), kRouted);
}

TEST_F(ElfPatcher, ObjectOfNamesTheLibrary) {
  Library library(WEFT_FIXTURE_LAZY);
  const void* inside = reinterpret_cast<void*>(library.function("call_getppid"));
  patcher.patch();
  const std::string_view name = patcher.object_of(inside);
  EXPECT_EQ(name, WEFT_FIXTURE_LAZY);
  EXPECT_NE(patcher.object_of(reinterpret_cast<void*>(routed)).find("elf_patcher_test"), name.npos);
  EXPECT_EQ(patcher.object_of(nullptr), "");
  library.close();
  patcher.rescan();
  EXPECT_EQ(patcher.object_of(inside), "");
  EXPECT_EQ(name, WEFT_FIXTURE_LAZY) << "names outlive their objects";
}

// The loader lists an object before it has relocated it. Patching it then would be overwritten, or fault when
// its RELRO pages are closed.
class ElfPatcherLoading : public ElfPatcher, public testing::WithParamInterface<const char*> {};

TEST_P(ElfPatcherLoading, WaitsForAnObjectThatAnotherThreadIsLoading) {
  int loading[2], go_on[2];
  ASSERT_EQ(pipe(loading), 0);
  ASSERT_EQ(pipe(go_on), 0);
  ASSERT_EQ(dup2(loading[1], 1000), 1000);
  ASSERT_EQ(dup2(go_on[0], 1001), 1001);
  std::unique_ptr<Library> library;
  // Started first: starting a thread waits for the loader too.
  std::latch half_loaded(1), found(1);
  std::thread patching([&] {
    half_loaded.wait();
    patcher.patch();
  });
  // A second thread finds the object already known, and has to wait for itself all the same.
  std::atomic<pid_t> late = 0;
  std::atomic<bool> late_done = false;
  std::thread patching_late([&] {
    found.wait();
    late = gettid();
    patcher.patch();
    late_done = true;
  });
  std::thread loader([&] { library = std::make_unique<Library>(GetParam(), RTLD_NOW); });
  char byte = 0;
  ASSERT_EQ(read(loading[0], &byte, 1), 1);  // now it stands in the middle of its relocation
  half_loaded.count_down();
  const ObjectInventory* object = nullptr;
  std::vector<ObjectInventory> inventory;
  while (!object) {
    inventory = patcher.inventory();
    object = find(inventory, "elf_fixture_slow_load");
  }
  // Without RELRO only an unrelocated slot tells, and the linker may order that before the one that stops the
  // loader. Then there is nothing to wait for.
  void* const value = *slots_of(GetParam(), "getppid").at(0);
  const bool relocated = reinterpret_cast<std::uintptr_t>(value) > 0x10000000;
  const bool waits = GetParam() == std::string_view(WEFT_FIXTURE_SLOW_LOAD) || !relocated;
  EXPECT_EQ(object->treatment, waits ? Treatment::kUnsettled : Treatment::kPatched);
  found.count_down();
  while (!late_done && !(late && asleep(late))) std::this_thread::yield();
  EXPECT_EQ(late_done, !waits);
  ASSERT_EQ(write(go_on[1], &byte, 1), 1);
  loader.join();
  patching.join();
  patching_late.join();
  EXPECT_EQ(library->call("call_getppid"), kRouted);
  EXPECT_EQ(find(patcher.inventory(), "elf_fixture_slow_load")->treatment, Treatment::kPatched);
  for (int file : {loading[0], loading[1], go_on[0], go_on[1], 1000, 1001}) close(file);
  patcher.restore();
}

INSTANTIATE_TEST_SUITE_P(Relro, ElfPatcherLoading, testing::Values(WEFT_FIXTURE_SLOW_LOAD));
INSTANTIATE_TEST_SUITE_P(NoRelro, ElfPatcherLoading, testing::Values(WEFT_FIXTURE_SLOW_LOAD_NO_RELRO));

TEST_F(ElfPatcher, ThreadsLoadAndPatchAtTheSameTime) {
  std::vector<std::thread> threads;
  for (const char* path : {WEFT_FIXTURE_RELOAD, WEFT_FIXTURE_NOW, WEFT_FIXTURE_POINTER}) {
    threads.emplace_back([this, path] {
      for (int i = 0; i < 300; ++i) {
        Library library(path);
        patcher.patch();
        EXPECT_EQ(library.call("call_getppid"), kRouted);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(patcher.restore().failed, 0u);
}

TEST_F(ElfPatcher, ForkedChildCanPatch) {
  Library library(WEFT_FIXTURE_LAZY);
  patcher.before_fork();
  const pid_t child = fork();
  patcher.after_fork();
  if (child == 0) {
    patcher.patch();
    _exit(library.call("call_getppid") == kRouted ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
