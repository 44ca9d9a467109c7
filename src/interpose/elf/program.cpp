#include "interpose/elf/program.hpp"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cstdlib>

#include "interpose/elf/base_name.hpp"
#include "interpose/elf/image.hpp"
#include "interpose/elf/mapped_file.hpp"

namespace weft::engine::interpose::elf {

namespace {

constexpr int kScriptLimit = 5;                // as the kernel's
constexpr std::size_t kScriptLineLimit = 256;  // BINPRM_BUF_SIZE

struct Found {
  std::string path;     // empty: nothing
  int error = ENOENT;   // then
  std::string refused;  // the first file of that name that may not be executed
};

// What execvp would find. Like execvp, remembers a file that may not be executed and goes on looking.
Found find_command(std::string_view command, const ProgramContext& context) {
  Found found;
  if (command.empty()) return found;
  const auto usable = [&](const std::string& path) {
    struct stat status;
    if (stat(path.c_str(), &status) != 0) {
      if (errno == EACCES) found.error = EACCES;
      return false;
    }
    if (S_ISREG(status.st_mode) && access(path.c_str(), X_OK) == 0) {
      found.path = path;
      return true;
    }
    found.error = EACCES;
    if (found.refused.empty()) found.refused = path;
    return false;
  };
  if (command.find('/') != command.npos) {
    usable(std::string(command));
    return found;
  }
  // glibc's default when the environment has none.
  std::string_view rest = context.search_path ? std::string_view(*context.search_path) : "/bin:/usr/bin";
  for (;;) {
    const auto colon = rest.find(':');
    const std::string_view directory = rest.substr(0, colon);
    // An empty element means the current directory.
    if (usable(std::string(directory.empty() ? "." : directory) + "/" + std::string(command)) ||
        colon == rest.npos)
      return found;
    rest.remove_prefix(colon + 1);
  }
}

struct ScriptLine {
  std::string interpreter;
  std::string argument;  // all the rest of the line, as the kernel passes it
};

// As the kernel does: a carriage return is part of what it stands behind.
std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
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

// "#!/usr/bin/env NAME": the program of interest is NAME.
bool leads_on(const ScriptLine& line) {
  return base_name(line.interpreter) == "env" && !line.argument.empty() && line.argument.front() != '-' &&
         line.argument.find_first_of("= \t") == line.argument.npos;
}

bool is_directory(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool is_python_file(std::string_view path) {
  return path.ends_with(".py") || path.ends_with(".pyw") || path.ends_with(".pyz");
}

// By what a file is run that does not run by itself: the interpreter that its name or its first line tells,
// if that is found. Empty: not known.
std::string interpreter_of(const std::string& path, const ProgramContext& context) {
  if (is_python_file(path)) return "python3";
  const MappedFile file(path);
  const auto line = file.error() ? std::nullopt : script_line(file.bytes());
  if (!line) return {};
  std::string name(base_name(leads_on(*line) ? line->argument : line->interpreter));
  if (name.ends_with('\r')) name.pop_back();
  if (!find_command(name, context).path.empty()) return name;
  return name.starts_with("python") ? "python3" : std::string();
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
    const Found found = find_command(command, context_);
    std::string path = found.path;
    if (path.empty()) {
      program_.path = command;
      return lacking(found);
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
      const bool by_path = line->interpreter.empty() || line->interpreter.find('/') != std::string::npos;
      std::string wanted = by_path ? line->interpreter : "./" + line->interpreter;
      Found next = find_command(wanted, context_);
      if (!next.path.empty() && leads_on(*line)) {
        wanted = line->argument;
        next = find_command(wanted, context_);
      }
      if (next.path.empty()) {
        program_.path = wanted;
        return lacking_interpreter(next, path);
      }
      path = std::move(next.path);
    }
  }

 private:
  Program refuse(ProgramKind kind, std::string message) {
    program_.kind = kind;
    program_.message = std::move(message);
    return std::move(program_);
  }

  // "weft run python3 app.py", which the program remembers as its advice.
  std::string advise(std::vector<std::string> words) {
    program_.advice = std::move(words);
    return "weft run " + shell_words(program_.advice);
  }

  // The command itself, program_.path, cannot be executed.
  Program lacking(const Found& found) {
    const std::string& name = program_.path;
    if (found.error == EACCES) return not_executable(found);
    if (name.empty()) {
      return refuse(ProgramKind::kNotFound,
                    "the command is an empty word, as from a variable that is not set: name a program, as in "
                    "weft run python3 app.py");
    }
    if (name.find('/') != name.npos)
      return refuse(ProgramKind::kNotFound, name + " does not exist: check the path");
    const std::string missing = name + " was not found in $PATH";
    if (is_directory(name)) {
      return refuse(ProgramKind::kNotFound,
                    missing + ", and in the current directory it is a directory: " + advice_in(name));
    }
    if (access(name.c_str(), F_OK) != 0)
      return refuse(ProgramKind::kNotFound, missing + ": check the spelling, or give its path");
    const std::string here = "./" + name;
    const std::string interpreter = interpreter_of(name, context_);
    const bool runs = access(name.c_str(), X_OK) == 0 && !is_python_file(name);
    return refuse(ProgramKind::kNotFound,
                  missing + ", but is in the current directory: " +
                      (runs || interpreter.empty() ? advise({here}) : advise({interpreter, name})));
  }

  Program not_executable(const Found& found) {
    const std::string& path = found.refused;
    if (path.empty()) {
      return refuse(ProgramKind::kNotExecutable,
                    program_.path +
                        " cannot be reached, since you may not search a directory that leads to it: get "
                        "execute permission for that directory");
    }
    if (is_directory(path)) {
      return refuse(ProgramKind::kNotExecutable, path + " is a directory, not a program: " + advice_in(path));
    }
    std::string message = path + " is not an executable file: ";
    const std::string interpreter = interpreter_of(path, context_);
    if (interpreter.empty())
      message += "chmod +x it, or name its interpreter (" + advise({"sh", path}) + ")";
    else
      message += advise({interpreter, path}) + (has_script_line(path) ? ", or chmod +x it" : "");
    return refuse(ProgramKind::kNotExecutable, std::move(message));
  }

  std::string advice_in(const std::string& directory) {
    return access((directory + "/__main__.py").c_str(), F_OK) == 0 ? advise({"python3", directory})
                                                                   : "name a program in it";
  }

  static bool has_script_line(const std::string& path) {
    const MappedFile file(path);
    return !file.error() && script_line(file.bytes());
  }

  // program_.path, which the first line of `script` names, cannot be executed.
  Program lacking_interpreter(const Found& found, const std::string& script) {
    std::string name = program_.path;
    const auto kind = found.error == EACCES ? ProgramKind::kNotExecutable : ProgramKind::kNotFound;
    const std::string interpreter = interpreter_of(script, context_);
    std::string remedy;
    if (!interpreter.empty()) remedy = ", or name the interpreter (" + advise({interpreter, script}) + ")";
    if (name.empty())
      return refuse(kind,
                    "the first line of " + script + " names no interpreter: write one behind #!" + remedy);
    if (name.ends_with('\r')) {
      name.pop_back();
      return refuse(kind,
                    "the first line of " + script + " ends in CRLF, so that it names \"" + name +
                        "\\r\", which does not exist: sed -i 's/\\r$//' " + shell_words({script}) +
                        (interpreter.starts_with("python") ? remedy : ""));  // others mind the rest, too
    }
    name += ", which the first line of " + script + " names,";
    if (!found.refused.empty() && is_directory(found.refused))
      name += " is a directory: correct that line";
    else if (found.error == EACCES)
      name += " is not an executable file: chmod +x it or correct that line";
    else if (program_.path.find('/') == std::string::npos)
      name += " was not found in $PATH: install it or correct that line";
    else
      name += " does not exist: correct that line";
    return refuse(kind, name + remedy);
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
            path + " is neither an ELF program nor a script with a \"#!\" line: name its interpreter (" +
                advise({is_python_file(path) ? "python3" : "sh", path}) + ")");
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

std::string shell_words(const std::vector<std::string>& words) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%";
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += ' ';
    if (!word.empty() && word.find_first_not_of(kPlain) == word.npos) {
      text += word;
      continue;
    }
    text += '\'';
    for (const char character : word) text += character == '\'' ? "'\\''" : std::string(1, character);
    text += '\'';
  }
  return text;
}

Program inspect_program(std::string_view command, const ProgramContext& context) {
  return Inspection(context).run(command);
}

}  // namespace weft::engine::interpose::elf
