// The patcher as a preloaded library uses it: it is in a library, and this program is what is patched. Built
// twice, position independent and not: in the latter the address of a libc function is a stub in the program.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "interpose/elf/patcher.hpp"

extern "C" {
bool fixture_patched_first();
void* fixture_libc_symbol(const char*);
int fixture_direct_getppid();
void fixture_rescan();
int fixture_restore();
void fixture_patch();
int fixture_left_alone(const void*, const char*);
}

namespace {

constexpr int kRouted = 4242;

int real_parent() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("PPid:")) return std::stoi(line.substr(5));
  return -1;
}

using Function = int();

// Taken in code: a position-dependent program has the stub's address as a constant here. Volatile, so that
// the compiler calls through the address and not by name.
Function* address_in_code() {
  Function* volatile address = reinterpret_cast<Function*>(getppid);
  return address;
}
Function* volatile address_of_getppid = reinterpret_cast<Function*>(getppid);

TEST(ElfInside, PatchesBeforeStaticInitialisers) {
  EXPECT_TRUE(fixture_patched_first());
}

TEST(ElfInside, RoutesTheProgramsCalls) {
  EXPECT_EQ(getppid(), kRouted);
  EXPECT_EQ(address_of_getppid(), kRouted);
  EXPECT_EQ(address_in_code()(), kRouted);
}

TEST(ElfInside, LeavesThePatchersOwnLibraryAlone) {
  EXPECT_EQ(fixture_direct_getppid(), real_parent());
}

TEST(ElfInside, LibcSymbolIsLibcsOwn) {
  auto* real = reinterpret_cast<Function*>(fixture_libc_symbol("getppid"));
  ASSERT_TRUE(real);
  EXPECT_EQ(real(), real_parent());
  Dl_info info{};
  ASSERT_TRUE(dladdr(reinterpret_cast<void*>(real), &info));
  EXPECT_NE(std::string(info.dli_fname).find("libc.so.6"), std::string::npos);
#if !defined(__PIE__) && !defined(__PIC__)
  // The premise: here dlsym answers with the program's stub.
  EXPECT_NE(dlsym(RTLD_DEFAULT, "getppid"), reinterpret_cast<void*>(real));
#endif
}

TEST(ElfInside, LibcSymbolChoosesTheDefaultVersion) {
  EXPECT_EQ(fixture_libc_symbol("pthread_cond_wait"),
            dlvsym(RTLD_DEFAULT, "pthread_cond_wait", "GLIBC_2.3.2"));
  EXPECT_NE(fixture_libc_symbol("pthread_cond_wait"),
            dlvsym(RTLD_DEFAULT, "pthread_cond_wait", "GLIBC_2.2.5"));
  EXPECT_EQ(fixture_libc_symbol("weft_nowhere_defined"), nullptr);
}

// The interposer's function is what the program natively calls; routing it would take the interposer out of
// the chain.
TEST(ElfInside, LeavesInterposedFunctionsAlone) {
  EXPECT_EQ(getpgrp(), -55);
  EXPECT_EQ(fixture_left_alone(reinterpret_cast<void*>(&real_parent), "getpgrp"),
            static_cast<int>(weft::engine::interpose::elf::LeftAlone::kInterposed));
}

// In a program that is not position independent their pointers hold the program's stub.
TEST(ElfInside, RoutesPointersOfLibrariesLoadedLater) {
  void* library = dlopen(WEFT_FIXTURE_POINTER, RTLD_NOW | RTLD_LOCAL);
  ASSERT_TRUE(library) << dlerror();
  fixture_rescan();
  for (const char* name : {"call_writable_pointer", "call_read_only_pointer", "call_getppid"})
    EXPECT_EQ(reinterpret_cast<Function*>(dlsym(library, name))(), kRouted) << name;
  // Calls through the stub would be routed by the program's slot too; the library's own must not depend on
  // that.
  EXPECT_EQ(fixture_left_alone(dlsym(library, "call_getppid"), "getppid"), -1);
  dlclose(library);
  fixture_rescan();
}

TEST(ElfInside, RestoresTheProgram) {
  EXPECT_GT(fixture_restore(), 0);
  EXPECT_EQ(getppid(), real_parent());
  EXPECT_EQ(address_of_getppid(), real_parent());
  fixture_patch();
  EXPECT_EQ(getppid(), kRouted);
}

}  // namespace
