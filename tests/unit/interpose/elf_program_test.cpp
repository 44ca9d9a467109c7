#include <elf.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "interpose/elf/program.hpp"

namespace {

using namespace weft::engine::interpose::elf;
namespace fs = std::filesystem;

class ElfProgram : public testing::Test {
 protected:
  ElfProgram() {
    std::string pattern = (fs::temp_directory_path() / "weft-elf-XXXXXX").string();
    directory = mkdtemp(pattern.data());
    std::ifstream self("/proc/self/exe", std::ios::binary);
    program.assign(std::istreambuf_iterator<char>(self), {});
    context.search_path = directory.string();
  }
  ~ElfProgram() override { fs::remove_all(directory); }

  std::string put(const std::string& name, std::string_view content, mode_t mode = 0755) {
    const fs::path path = directory / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
    EXPECT_EQ(chmod(path.c_str(), mode), 0);
    return path.string();
  }
  Program inspect(std::string_view command) { return inspect_program(command, context); }

  // This test's own program with some bytes changed.
  std::string with_byte(std::size_t at, int value) {
    std::string copy = program;
    copy[at] = static_cast<char>(value);
    return copy;
  }
  std::string with_loader(std::string_view loader) {
    std::string copy = program;
    const Elf64_Phdr header = interpreter_header();
    EXPECT_LT(loader.size(), header.p_filesz);
    std::fill_n(copy.begin() + header.p_offset, header.p_filesz, '\0');
    std::copy(loader.begin(), loader.end(), copy.begin() + header.p_offset);
    return copy;
  }
  std::string without_loader() {
    std::size_t at = 0;
    interpreter_header(&at);
    std::string copy = program;
    std::memset(copy.data() + at, 0, sizeof(Elf64_Word));  // PT_NULL
    return copy;
  }
  Elf64_Phdr interpreter_header(std::size_t* place = nullptr) {
    Elf64_Ehdr header;
    std::memcpy(&header, program.data(), sizeof header);
    for (int i = 0; i < header.e_phnum; ++i) {
      Elf64_Phdr segment;
      const std::size_t at = header.e_phoff + i * sizeof segment;
      std::memcpy(&segment, program.data() + at, sizeof segment);
      if (place) *place = at;
      if (segment.p_type == PT_INTERP) return segment;
    }
    ADD_FAILURE() << "this test must be a dynamic program";
    return {};
  }

  fs::path directory;
  std::string program;
  ProgramContext context;
};

// The message names the file and what to do.
void expect_refused(const Program& program, ProgramKind kind, std::string_view reason) {
  EXPECT_EQ(program.kind, kind) << program.message;
  EXPECT_FALSE(program.runnable());
  EXPECT_NE(program.message.find(reason), std::string::npos) << program.message;
}

TEST_F(ElfProgram, DynamicGlibcProgramRuns) {
  const std::string path = put("prog", program);
  const Program found = inspect(path);
  EXPECT_TRUE(found.runnable()) << found.message;
  EXPECT_EQ(found.message, "");
  EXPECT_EQ(found.path, path);
  EXPECT_EQ(found.chain, std::vector<std::string>{path});
  EXPECT_TRUE(found.loader.ends_with("ld-linux-x86-64.so.2"));
  EXPECT_NE(std::find(found.needed.begin(), found.needed.end(), "libc.so.6"), found.needed.end());
  EXPECT_FALSE(found.python);
}

TEST_F(ElfProgram, SearchPathIsUsedAsExecvpDoes) {
  put("a/prog", "not executable", 0644);
  const std::string path = put("b/prog", program);
  fs::create_directories(directory / "c/prog");
  context.search_path =
      (directory / "c").string() + ":" + (directory / "a").string() + ":" + (directory / "b").string();
  EXPECT_EQ(inspect("prog").path, path);
  context.search_path = (directory / "a").string();
  expect_refused(inspect("prog"), ProgramKind::kNotExecutable, "chmod +x");
  context.search_path = directory.string();
  expect_refused(inspect("prog"), ProgramKind::kNotFound, "$PATH");
  expect_refused(inspect((directory / "prog").string()), ProgramKind::kNotFound, "does not exist");
  expect_refused(inspect(""), ProgramKind::kNotFound, "empty word");
  expect_refused(inspect((directory / "c").string()), ProgramKind::kNotExecutable, "is a directory");
  context.search_path.reset();
  EXPECT_TRUE(inspect("sh").runnable()) << "/bin:/usr/bin by default";
}

TEST_F(ElfProgram, RefusesWhatPreloadingCannotReach) {
  expect_refused(inspect(put("static", without_loader())), ProgramKind::kStatic, "static");
  expect_refused(inspect(put("musl", with_loader("/lib/ld-musl-x86_64.so.1"))), ProgramKind::kMusl, "musl");
  expect_refused(inspect(put("bionic", with_loader("/system/bin/linker64"))), ProgramKind::kForeignLoader,
                 "linker64");
  expect_refused(inspect(put("x32", with_byte(EI_CLASS, ELFCLASS32))), ProgramKind::k32Bit, "32-bit");
  expect_refused(inspect(put("arm", with_byte(offsetof(Elf64_Ehdr, e_machine), EM_AARCH64))),
                 ProgramKind::kForeignMachine, "another machine");
  expect_refused(inspect(put("object", with_byte(offsetof(Elf64_Ehdr, e_type), ET_REL))),
                 ProgramKind::kMalformed, "object file");
  expect_refused(inspect(put("cut", program.substr(0, 40))), ProgramKind::kMalformed, "damaged");
  expect_refused(inspect(put("cut2", program.substr(0, 80))), ProgramKind::kMalformed, "damaged");
  expect_refused(inspect(put("text", "echo hello\n")), ProgramKind::kUnknownFormat, "weft run sh");
  expect_refused(inspect(put("empty", "")), ProgramKind::kUnknownFormat, "neither");
}

TEST_F(ElfProgram, RefusesPrivilegedPrograms) {
  const std::string path = put("prog", program, 04755);
  EXPECT_TRUE(inspect(path).runnable()) << "setuid to oneself is no privilege";
  context.uid = getuid() + 1;
  expect_refused(inspect(path), ProgramKind::kPrivileged, "setuid");
  EXPECT_EQ(chmod(path.c_str(), 02755), 0);
  EXPECT_TRUE(inspect(path).runnable());
  context.gid = getgid() + 1;
  expect_refused(inspect(path), ProgramKind::kPrivileged, "setgid");
  EXPECT_EQ(chmod(path.c_str(), 02745), 0);
  EXPECT_TRUE(inspect(path).runnable()) << "without group execution the kernel ignores the bit";
}

TEST_F(ElfProgram, RefusesFileCapabilities) {
  const std::string path = put("prog", program);
  vfs_cap_data capabilities{};
  capabilities.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE;
  capabilities.data[0].permitted = 1u << CAP_NET_BIND_SERVICE;
  if (setxattr(path.c_str(), "security.capability", &capabilities, XATTR_CAPS_SZ_2, 0) != 0)
    GTEST_SKIP() << "cannot set file capabilities here: " << std::strerror(errno);
  context.uid = 1000;
  expect_refused(inspect(path), ProgramKind::kPrivileged, "capabilities");
  context.uid = 0;
  EXPECT_TRUE(inspect(path).runnable()) << "root has them anyway";
}

TEST_F(ElfProgram, FollowsScripts) {
  const std::string path = put("prog", program);
  put("other", program);
  const std::string direct = put("direct", "#! " + path + "  -x \nrest");
  const std::string by_env = put("by_env", "#!/usr/bin/env prog\n");
  const std::string nested = put("nested", "#!" + by_env + "\n");
  EXPECT_EQ(inspect(direct).path, path);
  EXPECT_EQ(inspect(by_env).path, path);
  EXPECT_EQ(inspect(put("plain", "#!" + path + " other\n")).path, path) << "only env runs its argument";
  EXPECT_EQ(inspect("nested").path, path);
  EXPECT_EQ(inspect("nested").chain, (std::vector<std::string>{nested, by_env, path}));
  EXPECT_EQ(inspect(put("env_s", "#!/usr/bin/env -S prog -x\n")).path, "/usr/bin/env");
  expect_refused(inspect(put("dos", "#!" + path + "\r\n")), ProgramKind::kNotFound, "CRLF");
  expect_refused(inspect(put("dos_env", "#!/usr/bin/env prog\r\n")), ProgramKind::kNotFound, "\"prog\\r\"");
}

TEST_F(ElfProgram, NamesWhatAScriptLacks) {
  const Program program_missing = inspect(put("a", "#!/nowhere/python9\n"));
  expect_refused(program_missing, ProgramKind::kNotFound, "/nowhere/python9");
  EXPECT_NE(program_missing.message.find((directory / "a").string()), std::string::npos);
  expect_refused(inspect(put("b", "#!/usr/bin/env python9\n")), ProgramKind::kNotFound, "python9");
  expect_refused(inspect(put("c", "#!\n")), ProgramKind::kNotFound, "c");
  expect_refused(inspect(put("d", "#!" + put("e", "x", 0644) + "\n")), ProgramKind::kNotExecutable, "e");
  const std::string loop = (directory / "loop").string();
  expect_refused(inspect(put("loop", "#!" + loop + "\n")), ProgramKind::kTooManyScripts, "5");
}

TEST_F(ElfProgram, AdvisesWhatToRunInstead) {
  using Words = std::vector<std::string>;
  const std::string script = put("app.py", "print()", 0644);
  EXPECT_EQ(inspect(script).advice, (Words{"python3", script}));
  EXPECT_EQ(inspect(put("bare.pyz", "PK")).advice, (Words{"python3", put("bare.pyz", "PK")}));
  put("prog", program);
  const std::string by_env = put("by_env", "#!/usr/bin/env prog\n", 0644);
  EXPECT_EQ(inspect(by_env).advice, (Words{"prog", by_env}));
  EXPECT_EQ(inspect("nothing").advice, Words{});
  EXPECT_EQ(inspect("prog").advice, Words{});
}

TEST(ShellWords, QuotesWhatAShellWouldTakeApart) {
  EXPECT_EQ(shell_words({}), "");
  EXPECT_EQ(shell_words({"a", "--b=c/d", "", "e f", "g'h", "$i"}), "a --b=c/d '' 'e f' 'g'\\''h' '$i'");
}

TEST_F(ElfProgram, FiveScriptsAreFollowed) {
  std::string last = put("prog", program);
  for (int i = 1; i <= 5; ++i) last = put("s" + std::to_string(i), "#!" + last + "\n");
  EXPECT_TRUE(inspect(last).runnable()) << inspect(last).message;
  expect_refused(inspect(put("s6", "#!" + last + "\n")), ProgramKind::kTooManyScripts, "5");
}

TEST_F(ElfProgram, RecognisesPython) {
  const Program python = inspect_program("/usr/bin/python3");
  if (python.kind == ProgramKind::kNotFound) GTEST_SKIP() << "no /usr/bin/python3";
  EXPECT_TRUE(python.runnable()) << python.message;
  EXPECT_TRUE(python.python);
  EXPECT_FALSE(inspect_program("/bin/sh").python);
}

}  // namespace
