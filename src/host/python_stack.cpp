#include "host/python_stack.hpp"

#include <algorithm>
#include <charconv>

#include "host/safe_memory.hpp"

namespace weft::host {

namespace {

// Longer names are cut; no file system has longer ones.
constexpr uint64_t kMaxText = 1024;

void write_number(TextSink& sink, long number) noexcept {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
  sink.write({digits, static_cast<size_t>(end - digits)});
}

// Reads memory byte by byte through a window.
class ByteReader {
 public:
  ByteReader(uintptr_t begin, size_t size) noexcept : next_(begin), left_(size) {}

  bool next(uint8_t& byte) noexcept {
    if (at_ == filled_ && !fill()) return false;
    byte = window_[at_++];
    return true;
  }

 private:
  bool fill() noexcept {
    filled_ = std::min(left_, sizeof window_);
    at_ = 0;
    if (filled_ == 0 || !read_memory(next_, window_, filled_)) {
      left_ = filled_ = 0;
      return false;
    }
    next_ += filled_;
    left_ -= filled_;
    return true;
  }

  uintptr_t next_;
  size_t left_;
  size_t at_ = 0, filled_ = 0;
  uint8_t window_[128];
};

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

// Writes code points as UTF-8; what could disturb a terminal or is no character, as a question mark.
void write_code_point(TextSink& sink, uint32_t point) noexcept {
  char bytes[4];
  size_t size = 0;
  if (point < 0x20 || (point >= 0x7f && point < 0xa0) || (point >= 0xd800 && point < 0xe000) ||
      point > 0x10ffff)
    point = '?';
  const auto continuation = [&](int shift) {
    bytes[size++] = static_cast<char>(0x80 | ((point >> shift) & 0x3f));
  };
  if (point < 0x80) {
    bytes[size++] = static_cast<char>(point);
  } else if (point < 0x800) {
    bytes[size++] = static_cast<char>(0xc0 | point >> 6);
    continuation(0);
  } else if (point < 0x10000) {
    bytes[size++] = static_cast<char>(0xe0 | point >> 12);
    continuation(6);
    continuation(0);
  } else {
    bytes[size++] = static_cast<char>(0xf0 | point >> 18);
    continuation(12);
    continuation(6);
    continuation(0);
  }
  sink.write({bytes, size});
}

// Writes a string object: 1, 2 or 4 bytes a character, right behind its header.
void write_text(const Layout& layout, uintptr_t object, TextSink& sink) noexcept {
  uint64_t length = 0;
  uint32_t state = 0;
  if (!object || !read_memory(object + layout.text_length, length) ||
      !read_memory(object + layout.text_state, state)) {
    sink.write("???");
    return;
  }
  // The bits of `state`, from the lowest: interned 2, kind 3, compact 1, ASCII 1.
  const uint32_t kind = (state >> 2) & 7;
  const bool compact = (state >> 5) & 1, ascii = (state >> 6) & 1;
  if (!compact || (kind != 1 && kind != 2 && kind != 4)) {
    sink.write("???");
    return;
  }
  const uint64_t shown = std::min(length, kMaxText);
  ByteReader reader(object + (ascii ? layout.text_ascii_data : layout.text_data), shown * kind);
  for (uint64_t i = 0; i < shown; ++i) {
    uint32_t point = 0;
    for (uint32_t byte = 0; byte < kind; ++byte) {
      uint8_t value;
      if (!reader.next(value)) return;
      point |= static_cast<uint32_t>(value) << (8 * byte);
    }
    write_code_point(sink, point);
  }
  if (length > shown) sink.write("...");
}

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
    write_text(*python.layout(), frame.filename, sink);
    sink.write("\", line ");
    write_line(sink, frame.line);
    sink.write(" in ");
    write_text(*python.layout(), frame.name, sink);
    sink.write("\n");
  }
  return count;
}

size_t describe_python_frame(const Python& python, const ThreadStateInfo& thread, char* buffer,
                             size_t size) noexcept {
  BufferSink sink(buffer, size);
  Frame frame;
  if (!python.layout() || !FrameWalker(python, thread.frame).next(frame)) return 0;
  write_text(*python.layout(), frame.filename, sink);
  sink.write(":");
  write_line(sink, frame.line);
  sink.write(" in ");
  write_text(*python.layout(), frame.name, sink);
  return sink.size();
}

}  // namespace weft::host
