#include "interpose/elf/program.hpp"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cstdlib>

#include "interpose/elf/image.hpp"
#include "interpose/elf/mapped_file.hpp"

namespace weft::interpose::elf {

namespace {

constexpr int kScriptLimit = 5;                // as the kernel's
constexpr std::size_t kScriptLineLimit = 256;  // BINPRM_BUF_SIZE

std::string_view base_name(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == path.npos ? path : path.substr(slash + 1);
}

// What execvp would find; errno in `error` if nothing. Like execvp, remembers a file that may not be executed
// and goes on looking.
std::string find_command(std::string_view command, const ProgramContext& context, int& error) {
  error = ENOENT;
  if (command.empty()) return {};
  const auto usable = [&](const std::string& path) {
    struct stat status;
    if (stat(path.c_str(), &status) != 0) {
      if (errno == EACCES) error = EACCES;
      return false;
    }
    if (S_ISREG(status.st_mode) && access(path.c_str(), X_OK) == 0) return true;
    error = EACCES;
    return false;
  };
  if (command.find('/') != command.npos) {
    std::string path(command);
    return usable(path) ? path : std::string();
  }
  // glibc's default when the environment has none.
  std::string_view rest = context.search_path ? std::string_view(*context.search_path) : "/bin:/usr/bin";
  for (;;) {
    const auto colon = rest.find(':');
    const std::string_view directory = rest.substr(0, colon);
    // An empty element means the current directory.
    std::string path = std::string(directory.empty() ? "." : directory) + "/" + std::string(command);
    if (usable(path)) return path;
    if (colon == rest.npos) return {};
    rest.remove_prefix(colon + 1);
  }
}

struct ScriptLine {
  std::string interpreter;
  std::string argument;  // all the rest of the line, as the kernel passes it
};

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::optional<ScriptLine> script_line(std::span<const std::byte> file) {
  std::string_view text(reinterpret_cast<const char*>(file.data()), std::min(file.size(), kScriptLineLimit));
  if (!text.starts_with("#!")) return std::nullopt;
  text = trimmed(text.substr(2, text.find('\n') - 2));
  const auto space = text.find_first_of(" \t");
  ScriptLine line{std::string(text.substr(0, space)), {}};
  if (space != text.npos) line.argument = trimmed(text.substr(space));
  return line;
}

// Why the kernel would run it with more rights than the caller's, in words; empty if it would not.
std::string privilege_of(const std::string& path, const ProgramContext& context) {
  struct statvfs volume;
  if (statvfs(path.c_str(), &volume) == 0 && (volume.f_flag & ST_NOSUID)) return {};
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return {};
  if ((status.st_mode & S_ISUID) && status.st_uid != context.uid) return "is setuid";
  // Without group execution the bit once meant mandatory locking, and the kernel ignores it.
  if ((status.st_mode & S_ISGID) && (status.st_mode & S_IXGRP) && status.st_gid != context.gid)
    return "is setgid";
  if (context.uid != 0 && getxattr(path.c_str(), "security.capability", nullptr, 0) > 0)
    return "has file capabilities";
  return {};
}

bool is_python_symbol(std::string_view name) {
  return name == "Py_BytesMain" || name == "Py_RunMain";
}

class Inspection {
 public:
  explicit Inspection(const ProgramContext& context) : context_(context) {}

  Program run(std::string_view command) {
    int error = 0;
    std::string path = find_command(command, context_, error);
    if (path.empty()) {
      program_.path = command;
      return not_found(error, "");
    }
    for (;;) {
      program_.path = path;
      program_.chain.push_back(path);
      const MappedFile file(path);
      if (file.error()) {
        return refuse(ProgramKind::kUnreadable,
                      path + " cannot be read (" + strerror(file.error()) +
                          "), so Weft cannot tell whether it can run it: give yourself read "
                          "permission, or run it without weft");
      }
      const auto line = script_line(file.bytes());
      if (!line) return inspect(file.bytes());
      if (program_.chain.size() > kScriptLimit) {
        return refuse(ProgramKind::kTooManyScripts,
                      program_.chain.front() + " leads through more than " + std::to_string(kScriptLimit) +
                          " scripts that interpret each other: name the interpreter "
                          "itself in the first line");
      }
      // Interpreters are not looked for in the search path, but relative to the current directory.
      const bool by_path = line->interpreter.find('/') == line->interpreter.npos;
      std::string next =
          line->interpreter.empty()
              ? std::string()
              : find_command(by_path ? "./" + line->interpreter : line->interpreter, context_, error);
      const std::string wanted = next.empty() ? line->interpreter : line->argument;
      if (!next.empty() && leads_on(*line)) next = find_command(line->argument, context_, error);
      if (next.empty()) {
        program_.path = wanted;
        return not_found(line->interpreter.empty() ? ENOENT : error, path);
      }
      path = std::move(next);
    }
  }

 private:
  // "#!/usr/bin/env NAME": the program of interest is NAME.
  static bool leads_on(const ScriptLine& line) {
    return base_name(line.interpreter) == "env" && !line.argument.empty() && line.argument.front() != '-' &&
           line.argument.find_first_of("= \t") == line.argument.npos;
  }

  Program refuse(ProgramKind kind, std::string message) {
    program_.kind = kind;
    program_.message = std::move(message);
    return std::move(program_);
  }

  Program not_found(int error, const std::string& script) {
    const std::string& name = program_.path;
    const std::string whose = script.empty() ? "" : ", which the first line of " + script + " names,";
    if (error == EACCES) {
      return refuse(
          ProgramKind::kNotExecutable,
          name + whose +
              " is not an executable file: chmod +x it, or name its interpreter (weft run python3 " +
              (script.empty() ? name : script) + ")");
    }
    return refuse(
        ProgramKind::kNotFound,
        (name.empty() ? "an empty name" : name) + whose +
            (name.find('/') == name.npos ? " was not found in $PATH: check the spelling, or give its path"
                                         : " does not exist: check the path"));
  }

  Program inspect(std::span<const std::byte> bytes) {
    const std::string& path = program_.path;
    const std::string elsewhere = "; run it without weft";
    switch (identify(bytes)) {
      case FileKind::kX86_64:
        break;
      case FileKind::kNotElf:
        return refuse(
            ProgramKind::kUnknownFormat,
            path +
                " is neither an ELF program nor a script with a \"#!\" line: name its interpreter (weft run "
                "sh " +
                path + ")");
      case FileKind::k32Bit:
        return refuse(ProgramKind::k32Bit, path + " is a 32-bit program: Weft needs its x86-64 build");
      case FileKind::kForeignMachine:
        return refuse(ProgramKind::kForeignMachine,
                      path + " is built for another machine: Weft needs its x86-64 build");
      case FileKind::kNotLoadable:
        return refuse(ProgramKind::kMalformed,
                      path + " is an object file or core dump, not a program: link it first");
      case FileKind::kMalformed:
        return refuse(ProgramKind::kMalformed, path + " is a damaged ELF file: build or install it again");
    }
    const auto image = Image::of_file(bytes, path);
    if (!image || image->range().empty())
      return refuse(ProgramKind::kMalformed, path + " is a damaged ELF file: build or install it again");
    program_.loader = image->interpreter();
    image->for_each_needed([&](std::string_view library) {
      program_.needed.emplace_back(library);
      if (library.starts_with("libpython")) program_.python = true;
    });
    // A program that carries the interpreter exports these; one that embeds it wants them.
    image->for_each_symbol([&](const Symbol& symbol) { program_.python |= is_python_symbol(symbol.name); });

    if (program_.loader.empty()) {
      return refuse(
          ProgramKind::kStatic,
          path +
              " is statically linked: its calls do not go through a libc that Weft could route; build it "
              "without -static, or run it without weft");
    }
    const std::string_view loader = base_name(program_.loader);
    if (loader.starts_with("ld-musl")) {
      return refuse(ProgramKind::kMusl, path + " is built for musl libc (" + program_.loader +
                                            "): Weft needs a build for glibc" + elsewhere);
    }
    if (!loader.starts_with("ld-linux-x86-64.so")) {
      return refuse(ProgramKind::kForeignLoader,
                    path + " is started by " + program_.loader +
                        ", not by glibc's ld-linux-x86-64.so.2: Weft needs a build for "
                        "glibc" +
                        elsewhere);
    }
    if (const std::string privilege = privilege_of(path, context_); !privilege.empty()) {
      return refuse(ProgramKind::kPrivileged,
                    path + " " + privilege +
                        ", so the loader ignores preloaded libraries for it: run a copy without "
                        "that privilege (cp does not keep it)" +
                        elsewhere);
    }
    program_.kind = ProgramKind::kRunnable;
    return std::move(program_);
  }

  const ProgramContext& context_;
  Program program_;
};

}  // namespace

ProgramContext ProgramContext::of_this_process() {
  ProgramContext context;
  if (const char* path = std::getenv("PATH")) context.search_path = path;
  return context;
}

Program inspect_program(std::string_view command, const ProgramContext& context) {
  return Inspection(context).run(command);
}

}  // namespace weft::interpose::elf
