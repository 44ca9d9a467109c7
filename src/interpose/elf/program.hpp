#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weft::engine::interpose::elf {

// Whether a program can be run under Weft, and if not, why.
enum class ProgramKind {
  kRunnable,  // a dynamic x86-64 program for glibc
  kNotFound,
  kNotExecutable,  // no permission to execute it, or a directory
  kUnreadable,     // may be executed but not read, so nothing is known of it
  kStatic,         // has no dynamic linker: nothing can be loaded into it
  k32Bit,          // i386 or x32
  kForeignMachine,
  kMusl,
  kForeignLoader,  // another libc than glibc and musl
  kPrivileged,     // setuid, setgid or file capabilities: the loader ignores preloaded libraries
  kMalformed,      // an ELF file that the kernel would not run
  kUnknownFormat,  // neither ELF nor "#!"
  kTooManyScripts  // interpreters that are scripts themselves, more than the kernel follows
};

struct Program {
  ProgramKind kind = ProgramKind::kNotFound;
  std::string path;                 // the ELF program that will run, or the last file that could be resolved
  std::vector<std::string> chain;   // from the file asked for to `path`: scripts, then their interpreters
  std::string loader;               // PT_INTERP
  std::vector<std::string> needed;  // DT_NEEDED, in order
  // It is CPython: carries the interpreter, or needs a library that does.
  bool python = false;
  // For people: what is wrong and what to do about it. Empty for kRunnable.
  std::string message;
  // What to run instead, as {"python3", "app.py"}; empty where that is not known.
  std::vector<std::string> advice;

  bool runnable() const noexcept { return kind == ProgramKind::kRunnable; }
};

// Who will execute the program, and how it is looked for.
struct ProgramContext {
  std::optional<std::string> search_path;  // $PATH; none: the system's default
  uid_t uid = getuid();
  gid_t gid = getgid();

  static ProgramContext of_this_process();
};

// Finds out what execvp(command) would run: resolves it through the search path, then through "#!" lines and
// "#!/usr/bin/env NAME" (options of env are not followed: then env itself is the program). Reads files, runs
// nothing.
//
// Blocks on the file system; not meant for a fiber. Throws std::bad_alloc only.
Program inspect_program(std::string_view command,
                        const ProgramContext& context = ProgramContext::of_this_process());

// The words as one types them in a shell: quoted where they must be.
std::string shell_words(const std::vector<std::string>& words);

}  // namespace weft::engine::interpose::elf
