#include "host/thread_states.hpp"

#include "fiber/carrier.hpp"
#include "host/safe_memory.hpp"

namespace weft::engine::host {

namespace {

template <typename Value>
Value member(const unsigned char* structure, uint32_t offset) noexcept {
  Value value;
  __builtin_memcpy(&value, structure + offset, sizeof value);
  return value;
}

// `next`: the address of the one after it.
bool read_state(const Layout& layout, uintptr_t state, ThreadStateInfo& info, uintptr_t& next) noexcept {
  unsigned char bytes[kMaxStateSize];
  if (!state || !read_memory(state, bytes, sizeof bytes)) return false;
  next = member<uintptr_t>(bytes, layout.state_next);
  info.state = state;
  info.thread_id = member<uint64_t>(bytes, layout.state_thread_id);
  info.native_id = member<uint64_t>(bytes, layout.state_native_id);
  info.frame = member<uintptr_t>(bytes, layout.state_frame);
  if (layout.frame_is_indirect && info.frame && !read_memory(info.frame + layout.indirect_frame, info.frame))
    info.frame = 0;
  return true;
}

template <typename Match>
bool find_state(const Python& python, ThreadStateInfo& info, Match matches) noexcept {
  ThreadStateCursor cursor(python);
  while (cursor.next(info))
    if (matches(info)) return true;
  return false;
}

}  // namespace

bool ThreadStateInfo::belongs_to(const Fiber& fiber) const noexcept {
  if (thread_id == reinterpret_cast<uintptr_t>(&fiber)) return true;
  // A main fiber keeps the identity of its OS thread.
  return fiber.is_main() && native_id == static_cast<uint64_t>(fiber.carrier().thread_id()) &&
         !Fiber::is_block(reinterpret_cast<const void*>(thread_id));
}

ThreadStateCursor::ThreadStateCursor(const Python& python) noexcept : python_(python) {
  const Layout* layout = python.layout();
  if (!layout) return;
  interpreter_ = reinterpret_cast<uintptr_t>(python.api().interpreter_head());
  if (interpreter_) read_memory(interpreter_ + layout->interpreter_threads, state_);
}

bool ThreadStateCursor::next(ThreadStateInfo& info) noexcept {
  const Layout* layout = python_.layout();
  for (; interpreter_ && steps_left_ > 0; --steps_left_) {
    if (!state_) {
      if (!read_memory(interpreter_ + layout->interpreter_next, interpreter_)) return false;
      if (interpreter_) read_memory(interpreter_ + layout->interpreter_threads, state_);
      continue;
    }
    const uintptr_t state = state_;
    state_ = 0;
    if (state == marked_) break;
    if (--until_mark_ == 0) {
      marked_ = state;
      until_mark_ = lap_ *= 2;
    }
    if (read_state(*layout, state, info, state_)) return true;
  }
  return false;
}

bool read_thread_state(const Python& python, uintptr_t state, ThreadStateInfo& info) noexcept {
  uintptr_t next;
  return python.layout() && read_state(*python.layout(), state, info, next);
}

bool find_thread_state(const Python& python, uint64_t thread_id, ThreadStateInfo& info) noexcept {
  return find_state(python, info,
                    [thread_id](const ThreadStateInfo& found) { return found.thread_id == thread_id; });
}

bool find_thread_state(const Python& python, const Fiber& fiber, ThreadStateInfo& info) noexcept {
  return find_state(python, info, [&fiber](const ThreadStateInfo& found) { return found.belongs_to(fiber); });
}

GilHolder read_gil_holder(const Python& python, ThreadStateInfo& info) noexcept {
  const Layout* layout = python.layout();
  if (!layout || !python.initialized()) return GilHolder::kUnknown;
  uintptr_t holder = 0;
  if (!python.at_least(3, 12)) {
    holder = reinterpret_cast<uintptr_t>(python.api().current_state());
    if (!holder) return GilHolder::kNobody;
  } else {
    const auto interpreter = reinterpret_cast<uintptr_t>(python.api().interpreter_main());
    uintptr_t gil = 0;
    int locked = 0;
    if (!interpreter || !read_memory(interpreter + layout->interpreter_gil, gil) || !gil ||
        !read_memory(gil + layout->gil_locked, locked) || !read_memory(gil + layout->gil_holder, holder))
      return GilHolder::kUnknown;
    if (locked == 0) return GilHolder::kNobody;
  }
  return read_thread_state(python, holder, info) ? GilHolder::kSomebody : GilHolder::kUnknown;
}

}  // namespace weft::engine::host
