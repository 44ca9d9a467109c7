#include "host/python_stack.hpp"

#include <algorithm>
#include <charconv>

#include "host/byte_reader.hpp"
#include "host/python_text.hpp"
#include "host/safe_memory.hpp"

namespace weft::engine::host {

namespace {

void write_number(TextSink& sink, long number) noexcept {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
  sink.write({digits, static_cast<size_t>(end - digits)});
}

// Code objects say which line an instruction came from in a run-length table of variable-length entries, one
// for each group of instructions. An entry starts with a byte whose top bit is set; its bits 3 to 6 are a
// form and the lower ones the number of 2-byte code units, less one. What follows depends on the form; of all
// of it we need the lines, each relative to the former entry's. (CPython: Objects/locations.md.)
enum Form : uint8_t { kShortForms = 10, kOneLineForms = 13, kNoColumns = 13, kLong = 14, kNone = 15 };

bool read_varint(ByteReader& reader, uint32_t& value) noexcept {
  value = 0;
  uint8_t byte;
  for (int shift = 0; shift < 32; shift += 6) {
    if (!reader.next(byte)) return false;
    value |= static_cast<uint32_t>(byte & 0x3f) << shift;
    if (!(byte & 0x40)) return true;
  }
  return false;
}

int line_delta(uint32_t signed_varint) noexcept {
  const int magnitude = static_cast<int>(signed_varint >> 1);
  return signed_varint & 1 ? -magnitude : magnitude;
}

// Reads what follows an entry's first byte; false at a broken table.
bool read_entry(ByteReader& reader, uint8_t form, int& delta) noexcept {
  delta = 0;
  if (form == kNone) return true;
  uint8_t ignored;
  if (form < kShortForms) return reader.next(ignored);
  if (form < kOneLineForms) {
    delta = form - kShortForms;
    return reader.next(ignored) && reader.next(ignored);
  }
  uint32_t value;
  if (!read_varint(reader, value)) return false;
  delta = line_delta(value);
  // kLong: the end line and both columns.
  for (int i = 0; form == kLong && i < 3; ++i)
    if (!read_varint(reader, value)) return false;
  return true;
}

// The line of the instruction `offset` bytes into the code; -1 if it has none.
int line_at(ByteReader table, int first_line, int64_t offset) noexcept {
  int line = first_line;
  if (offset < 0) return line;  // nothing has run yet
  uint8_t head;
  for (int64_t end = 0; table.next(head);) {
    const uint8_t form = (head >> 3) & 15;
    int delta;
    if (!(head & 0x80) || !read_entry(table, form, delta)) return -1;
    line += delta;
    end += ((head & 7) + 1) * 2;
    if (offset < end) return form == kNone ? -1 : line;
  }
  return -1;
}

struct Frame {
  uintptr_t code = 0, instruction = 0;
  bool outer_loop = false;  // as in PythonFrame
  bool operator==(const Frame& other) const noexcept {
    return code == other.code && instruction == other.instruction;
  }
};

// What a frame says.
struct Place {
  uintptr_t filename = 0, name = 0;
  int line = -1;
};

class FrameWalker {
 public:
  FrameWalker(const Python& python, uintptr_t innermost, Memory memory = Memory::kForeign) noexcept
      : python_(python), layout_(*python.layout()), memory_(memory), frame_(innermost) {}

  /// False at the end of the stack, or where it cannot be read.
  bool next(Frame& frame) noexcept {
    // C code between Python frames, and frames that are being made, are skipped; a broken chain must end.
    for (int skipped = 0; frame_ && skipped < 1000; ++skipped) {
      unsigned char bytes[kMaxFrameSize];
      if (!copy_memory(memory_, frame_, bytes, frame_size())) return false;
      const auto word = [&bytes](uint32_t offset) {
        uintptr_t value;
        __builtin_memcpy(&value, bytes + offset, sizeof value);
        return value;
      };
      frame_ = word(layout_.frame_previous);
      frame = {word(layout_.frame_code), word(layout_.frame_instruction), outer_loop_};
      const bool of_python = bytes[layout_.frame_owner] <= kLastPythonFrameOwner;
      // Where a loop was entered stands a frame of C's; in 3.11 the first of the loop's own is marked, in the
      // byte before the owner.
      const bool of_311 = !python_.at_least(3, 12);
      if (of_311 ? bytes[layout_.frame_owner - 1] != 0 : !of_python) outer_loop_ = true;
      if (!of_python || !is_code(frame.code)) continue;
      if (!of_311 || !bytes[layout_.frame_owner - 1]) outer_loop_ = false;
      return true;
    }
    return false;
  }

 private:
  size_t frame_size() const noexcept {
    return std::max({layout_.frame_previous + 8, layout_.frame_code + 8, layout_.frame_instruction + 8,
                     layout_.frame_owner + 1});
  }

  bool is_code(uintptr_t code) const noexcept {
    uintptr_t type = 0;
    return code && copy_memory(memory_, code + layout_.object_type, &type, sizeof type) &&
           type == reinterpret_cast<uintptr_t>(python_.api().code_type);
  }

  const Python& python_;
  const Layout& layout_;
  const Memory memory_;
  uintptr_t frame_;
  bool outer_loop_ = false;
};

void read_place(const Layout& layout, const Frame& frame, Place& place,
                Memory memory = Memory::kForeign) noexcept {
  unsigned char bytes[kMaxCodeSize];
  if (!copy_memory(memory, frame.code, bytes, layout.code_instructions)) return;
  const auto word = [&bytes](uint32_t offset) {
    uintptr_t value;
    __builtin_memcpy(&value, bytes + offset, sizeof value);
    return value;
  };
  place.filename = word(layout.code_filename);
  place.name = word(layout.code_qualified_name);
  int first_line;
  __builtin_memcpy(&first_line, bytes + layout.code_first_line, sizeof first_line);
  const uintptr_t table = word(layout.code_line_table);
  uint64_t size = 0;
  if (copy_memory(memory, table + layout.bytes_size, &size, sizeof size))
    place.line = line_at(ByteReader(table + layout.bytes_data, size, memory), first_line,
                         static_cast<int64_t>(frame.instruction - (frame.code + layout.code_instructions)));
}

void write_line(TextSink& sink, int line) noexcept {
  if (line >= 0)
    write_number(sink, line);
  else
    sink.write("???");
}

// Writes frames in a row as lines, of which it keeps the last until it is known that they are the last.
class StackWriter {
 public:
  StackWriter(const Layout& layout, const PythonStackForm& form, TextSink& sink) noexcept
      : layout_(layout), form_(form), sink_(sink) {}

  void add(const Frame& frame) noexcept {
    if (form_.fold && present_.times > 0 && present_.frame == frame) {
      ++present_.times;
      return;
    }
    finish_line();
    present_ = {frame, 1};
  }

  void finish() noexcept {
    finish_line();
    if (skipped_ > 0 && form_.last == 0) {
      sink_.write("  ...\n");
    } else if (skipped_ > 0) {
      sink_.write("  ... ");
      write_number(sink_, skipped_);
      sink_.write(" more frames\n");
    }
    for (int i = std::max(0, kept_ - form_.last); i < kept_; ++i) write(last_[i % form_.last]);
  }

 private:
  struct Line {
    Frame frame;
    int times = 0;
  };

  void finish_line() noexcept {
    if (present_.times == 0) return;
    if (written_ < form_.first) {
      ++written_;
      write(present_);
    } else if (form_.last == 0) {
      skipped_ += present_.times;
    } else {
      Line& oldest = last_[kept_ % form_.last];
      if (kept_++ >= form_.last) skipped_ += oldest.times;
      oldest = present_;
    }
    present_.times = 0;
  }

  void write(const Line& line) noexcept {
    Place place;
    read_place(layout_, line.frame, place);
    sink_.write("  File \"");
    write_python_text(layout_, place.filename, sink_);
    sink_.write("\", line ");
    write_line(sink_, place.line);
    sink_.write(" in ");
    write_python_text(layout_, place.name, sink_);
    sink_.write("\n");
    if (line.times == 1) return;
    sink_.write("  ... the frame above ");
    write_number(sink_, line.times - 1);
    sink_.write(line.times == 2 ? " more time\n" : " more times\n");
  }

  const Layout& layout_;
  const PythonStackForm& form_;
  TextSink& sink_;
  Line present_;
  Line last_[PythonStackForm::kMostLast];
  int written_ = 0, kept_ = 0, skipped_ = 0;
};

}  // namespace

int write_python_stack(const Python& python, const ThreadStateInfo& thread, TextSink& sink,
                       const PythonStackForm& form) noexcept {
  // A chain that was bent while it was read may be a circle.
  constexpr int kMostFrames = 100'000;
  if (!python.layout()) return 0;
  FrameWalker walker(python, thread.frame);
  StackWriter writer(*python.layout(), form, sink);
  int count = 0;
  for (Frame frame; count < kMostFrames && walker.next(frame); ++count) writer.add(frame);
  writer.finish();
  return count;
}

size_t describe_python_frame(const Python& python, const ThreadStateInfo& thread, char* buffer,
                             size_t size) noexcept {
  BufferSink sink(buffer, size);
  Frame frame;
  if (!python.layout() || !FrameWalker(python, thread.frame).next(frame)) return 0;
  Place place;
  read_place(*python.layout(), frame, place);
  write_python_text(*python.layout(), place.filename, sink);
  sink.write(":");
  write_line(sink, place.line);
  sink.write(" in ");
  write_python_text(*python.layout(), place.name, sink);
  return sink.size();
}

size_t read_own_python_frames(const Python& python, PythonFrame* frames, size_t limit) noexcept {
  ThreadStateInfo thread;
  const ThreadStatePointer state =
      python.running_fiber_holds_gil() ? python.api().current_state() : python.api().own_state();
  if (!state || !python.layout() || !read_thread_state(python, reinterpret_cast<uintptr_t>(state), thread))
    return 0;
  FrameWalker walker(python, thread.frame, Memory::kOwn);
  size_t count = 0;
  for (Frame frame; count < limit && walker.next(frame); ++count) {
    Place place;
    read_place(*python.layout(), frame, place, Memory::kOwn);
    frames[count] = {place.filename, place.name, place.line, frame.outer_loop};
  }
  return count;
}

}  // namespace weft::engine::host
