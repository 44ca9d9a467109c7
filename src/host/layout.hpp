// Where CPython keeps what a look from outside needs: offsets into its structures.
#pragma once

#include <cstdint>

#include "host/python_api.hpp"

namespace weft::engine::host {

/// Where an instance's dictionary and its array of attributes are found.
enum class AttributePlace : uint8_t {
  kTwoPointers,    ///< the array 32 bytes before the object, the dictionary 24
  kTaggedPointer,  ///< either 24 bytes before; of an array one less than the address
  kInline,         ///< the dictionary 24 bytes before, the array in the object
};

/// Byte offsets, for one minor version. The structures keep their layout throughout a minor version.
struct Layout {
  // The GIL's state, which an interpreter points to. Zero in 3.11, where the current thread state is a
  // global.
  uint32_t interpreter_gil;
  uint32_t gil_holder;
  uint32_t gil_locked;

  uint32_t interpreter_next;
  uint32_t interpreter_threads;

  uint32_t state_next;
  uint32_t state_thread_id;
  uint32_t state_native_id;
  uint32_t state_frame;
  /// 3.11, 3.12: state_frame points to a structure on the C stack that points to the frame, at this offset.
  bool frame_is_indirect;
  uint32_t indirect_frame;

  uint32_t frame_previous;
  uint32_t frame_code;
  uint32_t frame_instruction;
  uint32_t frame_owner;
  uint32_t frame_locals;

  uint32_t code_first_line;
  uint32_t code_filename;
  uint32_t code_qualified_name;
  uint32_t code_line_table;
  uint32_t code_instructions;

  uint32_t object_type;
  uint32_t bytes_size;
  uint32_t bytes_data;
  uint32_t text_length;
  uint32_t text_state;
  uint32_t text_ascii_data;  ///< where an ASCII string's characters are
  uint32_t text_data;        ///< and another compact string's

  // Instances of classes, whose attributes stand in a dictionary or, while nobody has asked for that, in an
  // array.
  uint32_t type_flags;
  uint32_t type_instance_size;
  uint32_t type_shared_keys;  ///< the names of what is in the array
  AttributePlace attributes;
  uint32_t values_data;  ///< in the array's header
  uint32_t dict_keys;
  uint32_t dict_values;  ///< an array as above, or null
};

/// Frames with a higher owner stand for C code between Python frames.
inline constexpr uint8_t kLastPythonFrameOwner = 2;

/// The largest structures, as far as they are read.
inline constexpr uint32_t kMaxStateSize = 256, kMaxFrameSize = 128, kMaxCodeSize = 256;

/// Fills in the layout of `version`: from a table up to 3.12, from what the interpreter itself says from 3.13
/// on. False if it is not known. Reads static data only: the interpreter need not be initialised.
bool find_layout(const PythonApi& api, unsigned long version, Layout& layout) noexcept;

/// Whether the interpreter says of itself that it has no GIL.
bool says_free_threaded(const PythonApi& api, unsigned long version) noexcept;

}  // namespace weft::engine::host
