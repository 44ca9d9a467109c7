#include <cxxabi.h>
#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "host/python.hpp"
#include "runtime/dump.hpp"
#include "runtime/dump_groups.hpp"
#include "runtime/dump_snapshot.hpp"
#include "runtime/dump_symbols.hpp"

namespace weft::engine::dump {

namespace {

[[gnu::format(printf, 2, 3)]] void append(std::string& text, const char* format, ...) {
  char line[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  text += line;
}

std::string demangled(std::string_view function) {
  const std::string name(function);
  if (!name.starts_with("_Z")) return name;  // a C function's "f" would become "float"
  int status = 0;
  char* plain = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string result = status == 0 && plain ? plain : name;
  free(plain);
  return result;
}

std::string with_commas(size_t number) {
  std::string digits = std::to_string(number);
  for (size_t at = digits.size(); at > 3;) digits.insert(at -= 3, ",");
  return digits;
}

double seconds(Nanos time) {
  return static_cast<double>(time) / kSecond;
}

// The object that this code is in, if that is a library: the engine's own frames tell users nothing.
const void* own_library() {
  dl_find_object found;
  const bool known = _dl_find_object(reinterpret_cast<void*>(&own_library), &found) == 0;
  return known && *found.dlfo_link_map->l_name ? found.dlfo_map_start : nullptr;
}

class Writer {
 public:
  explicit Writer(const Snapshot& snapshot) : snapshot_(snapshot) {}

  std::string write(Form form) {
    write_summary();
    for (const Group& group : groups(form)) write_group(group);
    if (!objects_.empty()) text_ += "\nobjects:\n";
    for (const std::string& object : objects_) text_ += "  " + object + "\n";
    return std::move(text_);
  }

 private:
  struct Place {
    bool own = false;
    uintptr_t function = 0;  // where it begins, or the address itself
    std::string object;      // its file's name
    std::string text;
  };

  void write_summary() {
    size_t total = 0, parked = 0, ready = 0;
    const FiberRecord* running = nullptr;
    for (const FiberRecord* fiber = snapshot_.first(); fiber; fiber = fiber->next) {
      ++total;
      parked += fiber->state == Fiber::State::kParked;
      ready += fiber->state == Fiber::State::kReady || fiber->state == Fiber::State::kNew;
      if (fiber->running) running = fiber;
    }
    append(text_, "weft: process %d", getpid());
    if (const host::Python* python = host::Python::present()) {
      const std::string_view version = python->version_text();
      text_ += ", Python " + std::string(version.substr(0, version.find(' ')));
    }
    text_ += ": " + with_commas(total) + (total == 1 ? " fiber, " : " fibers, ") + with_commas(parked) +
             " parked, " + with_commas(ready) + " ready to run\n";
    append(text_, "carrier: OS thread %d, ", snapshot_.carrier_thread);
    if (snapshot_.pin.call && running) {
      append(text_, "pinned by fiber %lu in %s\n", running->id, snapshot_.pin.call);
    } else if (snapshot_.system_call >= 0) {
      append(text_, "blocked in system call %d", snapshot_.system_call);
      if (snapshot_.system_call_address && !place(snapshot_.system_call_address).own)
        text_ += ", at " + place(snapshot_.system_call_address).text;
      text_ += "\n";
    } else if (!snapshot_.stood_still) {
      text_ += "running a fiber\n";
    } else {
      text_ += ready || running ? "switching\n" : "idle: every fiber waits\n";
    }
    if (snapshot_.gil_held_outside) text_ += "the GIL is held by a thread that is no fiber\n";
    if (snapshot_.cut)
      text_ += "this dump is not complete: there was no memory for it, or the carrier could not wait\n";
  }

  void write_group(const Group& group) {
    const FiberRecord& first = *group.front();
    text_ += '\n';
    if (group.size() == 1) {
      text_ += "fiber ";
      write_title(first);
      text_ += ' ';
      write_state(first);
    } else {
      text_ += with_commas(group.size()) + " fibers ";
      write_common_state(group);
    }
    text_ += first.holds_gil ? ", holds the GIL\n" : "\n";
    if (group.size() > 1) write_members(group);
    if (!first.python.empty()) {
      text_ += "  Python:\n";
      append_indented(first.python);
    }
    write_frames(first);
  }

  void write_title(const FiberRecord& fiber) {
    append(text_, "%lu", fiber.id);
    if (!fiber.python_name.empty())
      text_ += " \"" + std::string(fiber.python_name) + "\"";
    else if (fiber.name[0])
      append(text_, " \"%s\"", fiber.name.data());
  }

  void write_members(const Group& group) {
    constexpr size_t kNamed = 5;
    text_ += "  they are ";
    for (size_t i = 0; i < std::min(group.size(), kNamed); ++i) {
      if (i > 0) text_ += i + 1 == group.size() ? " and " : ", ";
      write_title(*group[i]);
    }
    if (group.size() > kNamed) text_ += " and " + with_commas(group.size() - kNamed) + " more";
    text_ += '\n';
  }

  void write_state(const FiberRecord& fiber) {
    switch (fiber.state) {
      case Fiber::State::kNew:
        text_ += "has not run yet";
        return;
      case Fiber::State::kReady:
        text_ += "is ready to run";
        return;
      case Fiber::State::kRunning:
        write_running(fiber);
        return;
      case Fiber::State::kParked:
        break;
      default:
        text_ += "has ended";
        return;
    }
    const WaitReason& reason = fiber.reason;
    append(text_, "waits in %s (%s) for %.3f s", reason.call, to_string(reason.kind), seconds(fiber.waiting));
    if (reason.descriptor >= 0) append(text_, ", descriptor %d: ", reason.descriptor);
    text_ += fiber.target;
    if (reason.object) append(text_, ", address %p", reason.object);
    if (!fiber.holder.empty()) text_ += ", " + std::string(fiber.holder);
  }

  void write_running(const FiberRecord& fiber) {
    if (!snapshot_.pin.call || !fiber.running) {
      append(text_, "is running on its carrier, OS thread %d", snapshot_.carrier_thread);
      return;
    }
    append(text_, "pins its carrier, OS thread %d, in %s for %.3f s", snapshot_.carrier_thread,
           snapshot_.pin.call, seconds(snapshot_.pin.lasts));
    const auto [first, last] = visible_frames(fiber);
    const auto caller = reinterpret_cast<uintptr_t>(snapshot_.pin.caller);
    if (caller || first < last)
      text_ += ", called from " + place(caller ? caller - 1 : fiber.frames.addresses[first]).object;
  }

  void write_common_state(const Group& group) {
    const FiberRecord& first = *group.front();
    switch (first.state) {
      case Fiber::State::kNew:
        text_ += "have not run yet";
        return;
      case Fiber::State::kReady:
        text_ += "are ready to run";
        return;
      case Fiber::State::kParked:
        break;
      default:
        text_ += "are between two states";
        return;
    }
    const auto [least, most] = std::minmax_element(
        group.begin(), group.end(),
        [](const FiberRecord* a, const FiberRecord* b) { return a->waiting < b->waiting; });
    append(text_, "wait in %s (%s) for %.3f to %.3f s", first.reason.call, to_string(first.reason.kind),
           seconds((*least)->waiting), seconds((*most)->waiting));
    std::set<int> descriptors;
    std::set<const void*> objects;
    for (const FiberRecord* fiber : group) {
      if (fiber->reason.descriptor >= 0) descriptors.insert(fiber->reason.descriptor);
      if (fiber->reason.object) objects.insert(fiber->reason.object);
    }
    if (descriptors.size() > 1) text_ += ", on " + with_commas(descriptors.size()) + " descriptors, as";
    if (!descriptors.empty())
      append(text_, "%s descriptor %d: ", descriptors.size() > 1 ? "" : ",", first.reason.descriptor);
    text_ += first.target;
    if (objects.size() > 1)
      text_ += ", at " + with_commas(objects.size()) + " addresses";
    else if (!objects.empty())
      append(text_, ", all at address %p", first.reason.object);
    if (!first.holder.empty()) text_ += ", " + std::string(first.holder);
  }

  std::vector<Group> groups(Form form) {
    return group_fibers(snapshot_, form, [this](const FiberRecord& fiber) { return key_of(fiber); });
  }

  // The program's part of the stack. The engine's own frames tell users nothing: which call they belong to
  // stands in the wait.
  std::pair<size_t, size_t> visible_frames(const FiberRecord& fiber) {
    size_t first = 0, last = fiber.frames.count;
    while (first < last && place(fiber.frames.addresses[first]).own) ++first;
    while (last > first && place(fiber.frames.addresses[last - 1]).own) --last;
    return {first, last};
  }

  // Where the interpreter's own code stands varies with how far it has specialised a bytecode: between fibers
  // of one Python stack only the functions are compared.
  StackKey key_of(const FiberRecord& fiber) {
    const auto [first, last] = visible_frames(fiber);
    StackKey key;
    for (size_t i = first; i < last; ++i)
      key.push_back(fiber.python.empty() ? fiber.frames.addresses[i]
                                         : place(fiber.frames.addresses[i]).function);
    return key;
  }

  void write_frames(const FiberRecord& fiber) {
    const auto [first, last] = visible_frames(fiber);
    if (first == last) return;
    const auto [same, is_new] = stacks_.try_emplace(key_of(fiber), fiber.id);
    if (!is_new) {
      append(text_, "  native: as fiber %lu\n", same->second);
      return;
    }
    text_ += "  native:\n";
    for (size_t i = first; i < last; ++i) text_ += "    " + place(fiber.frames.addresses[i]).text + "\n";
  }

  void append_indented(std::string_view lines) {
    while (!lines.empty()) {
      const size_t end = std::min(lines.find('\n'), lines.size() - 1);
      text_ += "  " + std::string(lines.substr(0, end + 1));
      lines.remove_prefix(end + 1);
    }
    if (text_.back() != '\n') text_ += '\n';
  }

  const Place& place(uintptr_t address) {
    const auto [known, is_new] = places_.try_emplace(address);
    if (!is_new) return known->second;
    const Symbol symbol = symbols_.find(address);
    dl_find_object found;
    known->second.own = own_ && _dl_find_object(reinterpret_cast<void*>(address), &found) == 0 &&
                        found.dlfo_map_start == own_;
    known->second.function = address - symbol.function_offset;
    std::string& text = known->second.text;
    if (symbol.object.empty()) {
      append(text, "0x%lx", address);
    } else {
      if (!symbol.function.empty()) {
        text += demangled(symbol.function);
        append(text, "+0x%lx in ", symbol.function_offset);
      }
      known->second.object = symbol.object.substr(symbol.object.rfind('/') + 1);
      text += known->second.object;
      append(text, "+0x%lx", symbol.object_offset);
      objects_.emplace(symbol.object);
    }
    return known->second;
  }

  const Snapshot& snapshot_;
  std::string text_;
  const void* own_ = own_library();
  Symbols symbols_;
  std::unordered_map<uintptr_t, Place> places_;
  std::set<std::string> objects_;
  std::map<StackKey, uint64_t> stacks_;  // the first fiber that has each
};

}  // namespace

std::string take(Carrier& carrier, Form form) {
  // On the carrier itself, nothing of this may let another fiber run.
  NoSwitchScope blocking;
  const Snapshot snapshot(carrier);
  return Writer(snapshot).write(form);
}

}  // namespace weft::engine::dump
