#include "host/thread_name.hpp"

#include <algorithm>

#include "host/python_text.hpp"
#include "host/safe_memory.hpp"

namespace weft::engine::host {

namespace {

constexpr uint64_t kMaxName = 100;
constexpr int kMaxFrames = 10'000;
// A class with a hundred attributes has them in a dictionary, and this one among the first.
constexpr int64_t kMaxAttributes = 128;

// Bits of a type's flags (Include/object.h).
constexpr uint64_t kInlineValues = 1 << 2, kManagedDict = 1 << 4, kHeapType = 1 << 9;

uintptr_t word_at(uintptr_t address) noexcept {
  uintptr_t word = 0;
  return read_memory(address, word) ? word : 0;
}

// The outermost frame of Python code, or 0.
uintptr_t outermost_frame(const Layout& layout, uintptr_t frame) noexcept {
  uintptr_t outermost = 0;
  for (int i = 0; frame && i < kMaxFrames; ++i) {
    uint8_t owner = 0;
    if (!read_memory(frame + layout.frame_owner, owner)) return 0;
    if (owner <= kLastPythonFrameOwner) outermost = frame;
    if (!read_memory(frame + layout.frame_previous, frame)) return 0;
  }
  return frame ? 0 : outermost;
}

bool runs(const Python& python, uintptr_t frame, std::string_view function) noexcept {
  const Layout& layout = *python.layout();
  const uintptr_t code = word_at(frame + layout.frame_code);
  return code && python.api().code_type &&
         word_at(code + layout.object_type) == reinterpret_cast<uintptr_t>(python.api().code_type) &&
         python_text_is(layout, word_at(code + layout.code_qualified_name), function);
}

// The keys of a dictionary: this header, then an index for their hashes, then the entries in the order in
// which they were added. (CPython: Objects/dictobject.c, the same in 3.11, 3.12 and 3.13.)
class Keys {
 public:
  bool read(uintptr_t address) noexcept {
    struct {
      uint64_t references;
      uint8_t log2_size, log2_index_bytes, kind, unused;
      uint32_t version;
      int64_t usable, entries;
    } header;
    static_assert(sizeof header == 32);
    if (!address || !read_memory(address, header) || header.log2_index_bytes > 40) return false;
    count_ = std::min(header.entries, kMaxAttributes);
    // A general table has the hashes in its entries.
    general_ = header.kind == 0;
    entries_ = address + sizeof header + (uint64_t{1} << header.log2_index_bytes);
    return header.kind <= 2;
  }

  /// The position of `name`, or -1.
  int64_t find(const Layout& layout, std::string_view name) const noexcept {
    for (int64_t i = 0; i < count_; ++i)
      if (python_text_is(layout, word_at(entry(i)), name)) return i;
    return -1;
  }

  uintptr_t value(int64_t position) const noexcept { return word_at(entry(position) + 8); }

 private:
  uintptr_t entry(int64_t position) const noexcept {
    const auto index = static_cast<uint64_t>(position);
    return general_ ? entries_ + index * 24 + 8 : entries_ + index * 16;
  }

  uintptr_t entries_ = 0;
  int64_t count_ = 0;
  bool general_ = false;
};

// The array and the dictionary of an instance; one of them, or both in 3.13, where a dictionary may use the
// array.
struct Attributes {
  uintptr_t values = 0, dictionary = 0;

  void find(const Layout& layout, uintptr_t object, uintptr_t type, uint64_t flags) noexcept {
    const uintptr_t word = word_at(object - 24);
    switch (layout.attributes) {
      case AttributePlace::kTwoPointers:
        values = word_at(object - 32);
        dictionary = word;
        return;
      case AttributePlace::kTaggedPointer:
        if (word & 1)
          values = word + 1;
        else
          dictionary = word;
        return;
      case AttributePlace::kInline:
        dictionary = word;
        constexpr uintptr_t kValid = 3;  // where the header says whether the array is in use
        uint8_t valid = 0;
        if (dictionary || !(flags & kInlineValues)) return;
        const uintptr_t inside = object + word_at(type + layout.type_instance_size);
        if (read_memory(inside + kValid, valid) && valid == 1) values = inside;
        return;
    }
  }
};

// An instance's attribute, or 0.
uintptr_t attribute(const Layout& layout, uintptr_t object, std::string_view name) noexcept {
  const uintptr_t type = word_at(object + layout.object_type);
  uint64_t flags = 0;
  if (!type || !read_memory(type + layout.type_flags, flags)) return 0;
  if ((flags & (kManagedDict | kHeapType)) != (kManagedDict | kHeapType)) return 0;
  Attributes attributes;
  attributes.find(layout, object, type, flags);
  uintptr_t values = attributes.values;
  uintptr_t keys_address = word_at(type + layout.type_shared_keys);
  if (!values) {
    if (!attributes.dictionary) return 0;
    keys_address = word_at(attributes.dictionary + layout.dict_keys);
    values = word_at(attributes.dictionary + layout.dict_values);
  }
  Keys keys;
  if (!keys.read(keys_address)) return 0;
  const int64_t position = keys.find(layout, name);
  if (position < 0) return 0;
  return values ? word_at(values + layout.values_data + static_cast<uint64_t>(position) * 8)
                : keys.value(position);
}

}  // namespace

void write_thread_name(const Python& python, const ThreadStateInfo& thread, TextSink& sink) noexcept {
  const Layout* layout = python.layout();
  if (!layout) return;
  const uintptr_t frame = outermost_frame(*layout, thread.frame);
  if (!frame || !runs(python, frame, "Thread._bootstrap")) return;
  const uintptr_t self = word_at(frame + layout->frame_locals);
  const uintptr_t name = self ? attribute(*layout, self, "_name") : 0;
  if (name && python.api().text_type &&
      word_at(name + layout->object_type) == reinterpret_cast<uintptr_t>(python.api().text_type))
    write_python_text(*layout, name, sink, kMaxName);
}

}  // namespace weft::engine::host
