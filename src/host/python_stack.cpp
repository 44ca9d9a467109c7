#include "host/python_stack.hpp"

#include <algorithm>
#include <charconv>

#include "host/byte_reader.hpp"
#include "host/python_text.hpp"
#include "host/safe_memory.hpp"

namespace weft::host {

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
  uintptr_t filename = 0, name = 0;
  int line = -1;
};

class FrameWalker {
 public:
  FrameWalker(const Python& python, uintptr_t innermost) noexcept
      : python_(python), layout_(*python.layout()), frame_(innermost) {}

  /// False at the end of the stack, or where it cannot be read.
  bool next(Frame& frame) noexcept {
    // C code between Python frames, and frames that are being made, are skipped; a broken chain must end.
    for (int skipped = 0; frame_ && skipped < 1000; ++skipped) {
      unsigned char bytes[kMaxFrameSize];
      if (!read_memory(frame_, bytes, frame_size())) return false;
      const auto word = [&bytes](uint32_t offset) {
        uintptr_t value;
        __builtin_memcpy(&value, bytes + offset, sizeof value);
        return value;
      };
      frame_ = word(layout_.frame_previous);
      if (bytes[layout_.frame_owner] <= kLastPythonFrameOwner &&
          read_code(word(layout_.frame_code), word(layout_.frame_instruction), frame))
        return true;
    }
    return false;
  }

 private:
  size_t frame_size() const noexcept {
    return std::max({layout_.frame_previous + 8, layout_.frame_code + 8, layout_.frame_instruction + 8,
                     layout_.frame_owner + 1});
  }

  bool read_code(uintptr_t code, uintptr_t instruction, Frame& frame) noexcept {
    unsigned char bytes[kMaxCodeSize];
    if (!code || !read_memory(code, bytes, layout_.code_instructions)) return false;
    const auto word = [&bytes](uint32_t offset) {
      uintptr_t value;
      __builtin_memcpy(&value, bytes + offset, sizeof value);
      return value;
    };
    if (word(layout_.object_type) != reinterpret_cast<uintptr_t>(python_.api().code_type)) return false;
    frame.filename = word(layout_.code_filename);
    frame.name = word(layout_.code_qualified_name);
    int first_line;
    __builtin_memcpy(&first_line, bytes + layout_.code_first_line, sizeof first_line);
    const uintptr_t table = word(layout_.code_line_table);
    uint64_t size = 0;
    frame.line = -1;
    if (read_memory(table + layout_.bytes_size, size))
      frame.line = line_at(ByteReader(table + layout_.bytes_data, size), first_line,
                           static_cast<int64_t>(instruction - (code + layout_.code_instructions)));
    return true;
  }

  const Python& python_;
  const Layout& layout_;
  uintptr_t frame_;
};

void write_line(TextSink& sink, int line) noexcept {
  if (line >= 0)
    write_number(sink, line);
  else
    sink.write("???");
}

}  // namespace

int write_python_stack(const Python& python, const ThreadStateInfo& thread, TextSink& sink,
                       int limit) noexcept {
  if (!python.layout()) return 0;
  FrameWalker walker(python, thread.frame);
  Frame frame;
  int count = 0;
  while (walker.next(frame)) {
    if (count == limit) {
      sink.write("  ...\n");
      break;
    }
    ++count;
    sink.write("  File \"");
    write_python_text(*python.layout(), frame.filename, sink);
    sink.write("\", line ");
    write_line(sink, frame.line);
    sink.write(" in ");
    write_python_text(*python.layout(), frame.name, sink);
    sink.write("\n");
  }
  return count;
}

size_t describe_python_frame(const Python& python, const ThreadStateInfo& thread, char* buffer,
                             size_t size) noexcept {
  BufferSink sink(buffer, size);
  Frame frame;
  if (!python.layout() || !FrameWalker(python, thread.frame).next(frame)) return 0;
  write_python_text(*python.layout(), frame.filename, sink);
  sink.write(":");
  write_line(sink, frame.line);
  sink.write(" in ");
  write_python_text(*python.layout(), frame.name, sink);
  return sink.size();
}

}  // namespace weft::host
