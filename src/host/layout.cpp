#include "host/layout.hpp"

#include <cstring>

namespace weft::engine::host {

namespace {

// Taken with offsetof from the installed headers of 3.11.2, 3.11.7 and 3.12.1. These versions receive
// security fixes only; debuggers rely on the same figures for all of their releases.
constexpr Layout k311 = {
    .interpreter_gil = 0,
    .gil_holder = 0,
    .gil_locked = 0,
    .interpreter_next = 0,
    .interpreter_threads = 16,
    .state_next = 8,
    .state_thread_id = 152,
    .state_native_id = 160,
    .state_frame = 56,
    .frame_is_indirect = true,
    .indirect_frame = 8,
    .frame_previous = 48,
    .frame_code = 32,
    .frame_instruction = 56,
    .frame_owner = 69,
    .frame_locals = 72,
    .code_first_line = 72,
    .code_filename = 112,
    .code_qualified_name = 128,
    .code_line_table = 136,
    .code_instructions = 184,
    .object_type = 8,
    .bytes_size = 16,
    .bytes_data = 32,
    .text_length = 16,
    .text_state = 32,
    .text_ascii_data = 48,
    .text_data = 72,
    .type_flags = 168,
    .type_instance_size = 32,
    .type_shared_keys = 872,
    .attributes = AttributePlace::kTwoPointers,
    .values_data = 0,
    .dict_keys = 32,
    .dict_values = 40,
};

constexpr Layout k312 = {
    .interpreter_gil = 384,
    .gil_holder = 8,
    .gil_locked = 16,
    .interpreter_next = 0,
    .interpreter_threads = 72,
    .state_next = 8,
    .state_thread_id = 136,
    .state_native_id = 144,
    .state_frame = 56,
    .frame_is_indirect = true,
    .indirect_frame = 0,
    .frame_previous = 8,
    .frame_code = 0,
    .frame_instruction = 56,
    .frame_owner = 70,
    .frame_locals = 72,
    .code_first_line = 68,
    .code_filename = 112,
    .code_qualified_name = 128,
    .code_line_table = 136,
    .code_instructions = 192,
    .object_type = 8,
    .bytes_size = 16,
    .bytes_data = 32,
    .text_length = 16,
    .text_state = 32,
    .text_ascii_data = 40,
    .text_data = 56,
    .type_flags = 168,
    .type_instance_size = 32,
    .type_shared_keys = 880,
    .attributes = AttributePlace::kTaggedPointer,
    .values_data = 0,
    .dict_keys = 32,
    .dict_values = 40,
};

// The head of _PyRuntime in 3.13, made for debuggers: every member is 64 bits wide, so a member is known by
// its index.
enum Index : size_t {
  kCookie = 0,
  kVersion = 1,
  kFreeThreaded = 2,
  kInterpreterNext = 8,
  kInterpreterThreads = 9,
  kInterpreterGil = 14,
  kGil = 15,
  kGilLocked = 17,
  kGilHolder = 18,
  kStateNext = 21,
  kStateFrame = 23,
  kStateThreadId = 24,
  kStateNativeId = 25,
  kFramePrevious = 29,
  kFrameCode = 30,
  kFrameInstruction = 31,
  kFrameLocals = 32,
  kFrameOwner = 33,
  kCodeFilename = 35,
  kCodeQualifiedName = 37,
  kCodeLineTable = 38,
  kCodeFirstLine = 39,
  kCodeInstructions = 43,
  kObjectType = 45,
  kBytesSize = 65,
  kBytesData = 66,
  kTextSize = 67,
  kTextState = 68,
  kTextLength = 69,
  kTextAsciiSize = 70,
  kCount = 71,
};

constexpr unsigned long minor_of(unsigned long version) {
  return version >> 16;
}

bool read_offsets(const PythonApi& api, unsigned long version, uint64_t (&words)[kCount]) noexcept {
  if (minor_of(version) != 0x030d || !api.runtime) return false;
  memcpy(words, api.runtime, sizeof words);
  return memcmp(&words[kCookie], "xdebugpy", 8) == 0 && minor_of(words[kVersion]) == minor_of(version);
}

Layout from_offsets(const uint64_t (&words)[kCount]) noexcept {
  const auto at = [&words](Index index) { return static_cast<uint32_t>(words[index]); };
  return {
      .interpreter_gil = at(kInterpreterGil),
      .gil_holder = at(kGilHolder) - at(kGil),
      .gil_locked = at(kGilLocked) - at(kGil),
      .interpreter_next = at(kInterpreterNext),
      .interpreter_threads = at(kInterpreterThreads),
      .state_next = at(kStateNext),
      .state_thread_id = at(kStateThreadId),
      .state_native_id = at(kStateNativeId),
      .state_frame = at(kStateFrame),
      .frame_is_indirect = false,
      .indirect_frame = 0,
      .frame_previous = at(kFramePrevious),
      .frame_code = at(kFrameCode),
      .frame_instruction = at(kFrameInstruction),
      .frame_owner = at(kFrameOwner),
      .frame_locals = at(kFrameLocals),
      .code_first_line = at(kCodeFirstLine),
      .code_filename = at(kCodeFilename),
      .code_qualified_name = at(kCodeQualifiedName),
      .code_line_table = at(kCodeLineTable),
      .code_instructions = at(kCodeInstructions),
      .object_type = at(kObjectType),
      .bytes_size = at(kBytesSize),
      .bytes_data = at(kBytesData),
      .text_length = at(kTextLength),
      .text_state = at(kTextState),
      .text_ascii_data = at(kTextAsciiSize),
      // A compact string that is not ASCII has its UTF-8 form's length and address before its characters; the
      // general string object has one pointer more.
      .text_data = static_cast<uint32_t>(words[kTextSize]) - 8,
      // These the interpreter does not tell. Taken from the headers of 3.13.0.
      .type_flags = 168,
      .type_instance_size = 32,
      .type_shared_keys = 880,
      .attributes = AttributePlace::kInline,
      .values_data = 8,
      .dict_keys = 32,
      .dict_values = 40,
  };
}

bool plausible(const Layout& layout) noexcept {
  const auto within = [](uint32_t limit, auto... offsets) { return ((offsets + 8 <= limit) && ...); };
  return within(kMaxStateSize, layout.state_next, layout.state_thread_id, layout.state_native_id,
                layout.state_frame) &&
         within(kMaxFrameSize, layout.frame_previous, layout.frame_code, layout.frame_instruction,
                layout.frame_owner) &&
         within(kMaxCodeSize, layout.code_first_line, layout.code_filename, layout.code_qualified_name,
                layout.code_line_table, layout.code_instructions) &&
         layout.text_data > layout.text_ascii_data && layout.text_data <= 128;
}

}  // namespace

bool find_layout(const PythonApi& api, unsigned long version, Layout& layout) noexcept {
  uint64_t words[kCount];
  if (minor_of(version) == 0x030b)
    layout = k311;
  else if (minor_of(version) == 0x030c)
    layout = k312;
  else if (read_offsets(api, version, words) && words[kFreeThreaded] == 0)
    layout = from_offsets(words);
  else
    return false;
  return plausible(layout);
}

bool says_free_threaded(const PythonApi& api, unsigned long version) noexcept {
  uint64_t words[kCount];
  return read_offsets(api, version, words) && words[kFreeThreaded] != 0;
}

}  // namespace weft::engine::host
