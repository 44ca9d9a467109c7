#include "heap/profile_pprof.hpp"

#include <elf.h>
#include <link.h>

#include <algorithm>
#include <ctime>
#include <exception>
#include <unordered_map>
#include <vector>

#include "heap/profile_symbols.hpp"

namespace weft::heap {

namespace {

// Protocol buffers' wire format, as far as it takes: numbers, and what has a length. (protobuf.dev,
// "Encoding")
class Message {
 public:
  void number(uint32_t field, uint64_t value) {
    if (value == 0) return;  // what a field has that is not there
    varint(field << 3);
    varint(value);
  }
  void bytes(uint32_t field, std::string_view value) {
    varint(field << 3 | 2);
    varint(value.size());
    text_ += value;
  }
  void message(uint32_t field, const Message& value) { bytes(field, value.text_); }
  template <typename Numbers>
  void packed(uint32_t field, const Numbers& values) {
    Message all;
    for (auto value : values) all.varint(static_cast<uint64_t>(value));
    message(field, all);
  }
  std::string take() { return std::move(text_); }

 private:
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) text_ += static_cast<char>(value | 0x80);
    text_ += static_cast<char>(value);
  }

  std::string text_;
};

// The numbers of the fields (proto/profile.proto).
enum ProfileField : uint32_t {
  kSampleType = 1,
  kSample,
  kMapping,
  kLocation,
  kFunction,
  kString,
  kTimeNanos = 9,
  kPeriodType = 11,
  kPeriod,
  kComment,
  kDefaultSampleType
};

struct Object {
  uintptr_t begin, end;
  uint64_t offset;
  std::string name, build_id;
};

std::string build_id_in(const char* note, const char* end) {
  constexpr char kDigits[] = "0123456789abcdef";
  while (end - note >= static_cast<ptrdiff_t>(sizeof(Elf64_Nhdr))) {
    Elf64_Nhdr header;
    __builtin_memcpy(&header, note, sizeof header);
    const char* name = note + sizeof header;
    const char* content = name + ((header.n_namesz + 3) & ~3u);
    note = content + ((header.n_descsz + 3) & ~3u);
    if (note > end) break;
    if (header.n_type != NT_GNU_BUILD_ID || header.n_namesz != 4 || __builtin_memcmp(name, "GNU", 4) != 0)
      continue;
    std::string id;
    for (const char* byte = content; byte < content + header.n_descsz; ++byte)
      (id += kDigits[static_cast<uint8_t>(*byte) >> 4]) += kDigits[*byte & 15];
    return id;
  }
  return {};
}

// The executable parts of what is loaded.
std::vector<Object> loaded_objects() {
  struct Call {
    std::vector<Object> objects;
    std::exception_ptr error;  // which may not pass through the loader
  } call;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto& out = *static_cast<Call*>(data);
        try {
          std::string build_id;
          for (int i = 0; i < info->dlpi_phnum; ++i) {
            const ElfW(Phdr)& header = info->dlpi_phdr[i];
            const auto* begin = reinterpret_cast<const char*>(info->dlpi_addr + header.p_vaddr);
            if (header.p_type == PT_NOTE && build_id.empty())
              build_id = build_id_in(begin, begin + header.p_memsz);
          }
          for (int i = 0; i < info->dlpi_phnum; ++i) {
            const ElfW(Phdr)& header = info->dlpi_phdr[i];
            if (header.p_type != PT_LOAD || !(header.p_flags & PF_X)) continue;
            const uintptr_t begin = info->dlpi_addr + header.p_vaddr;
            out.objects.push_back({begin, begin + header.p_memsz, header.p_offset,
                                   info->dlpi_name && *info->dlpi_name ? info->dlpi_name : "", build_id});
          }
          return 0;
        } catch (...) {
          out.error = std::current_exception();
          return 1;
        }
      },
      &call);
  if (call.error) std::rethrow_exception(call.error);
  std::sort(call.objects.begin(), call.objects.end(),
            [](const Object& a, const Object& b) { return a.begin < b.begin; });
  return std::move(call.objects);
}

class Writer {
 public:
  explicit Writer(const ProfileRecord& record) : record_(record), names_(record) { text(""); }

  std::string write() {
    for (const char* type : {"alloc_objects", "alloc_space", "inuse_objects", "inuse_space"})
      profile_.message(kSampleType, type_of(type));
    for (const Site& site : record_.sites) sample(site);
    for (size_t i = 0; i < objects_.size(); ++i) mapping(i);
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    profile_.number(kTimeNanos,
                    static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec));
    profile_.message(kPeriodType, value_type("space", "bytes"));
    profile_.number(kPeriod, record_.totals.interval);
    profile_.number(kDefaultSampleType, text("inuse_space"));
    for (const std::string_view& each : order_) profile_.bytes(kString, each);
    return profile_.take();
  }

 private:
  uint64_t text(std::string_view value) {
    const auto [place, is_new] = texts_.try_emplace(std::string(value), texts_.size());
    if (is_new) order_.push_back(place->first);
    return place->second;
  }

  Message value_type(std::string_view type, std::string_view unit) {
    Message message;
    message.number(1, text(type));
    message.number(2, text(unit));
    return message;
  }
  Message type_of(std::string_view type) {
    return value_type(type, type.ends_with("space") ? "bytes" : "count");
  }

  void sample(const Site& site) {
    std::vector<uint64_t> locations;
    for (uint32_t i = 0; i < site.frame_count; ++i)
      locations.push_back(location(record_.frames[site.first_frame + i]));
    const auto rounded = [](double value) { return static_cast<int64_t>(value + (value < 0 ? -0.5 : 0.5)); };
    const int64_t values[] = {rounded(site.made_blocks), rounded(site.made_bytes),
                              rounded(site.made_blocks - site.freed_blocks),
                              rounded(site.made_bytes - site.freed_bytes)};
    Message message;
    message.packed(1, locations);
    message.packed(2, values);
    profile_.message(kSample, message);
  }

  uint64_t location(PackedFrame packed) {
    const auto [place, is_new] = locations_.try_emplace(packed.word(), locations_.size() + 1);
    if (!is_new) return place->second;
    const HeapFrame& frame = names_.frame(packed);
    Message message;
    message.number(1, place->second);
    if (!frame.python) {
      message.number(2, mapping_of(frame.address));
      message.number(3, frame.address);
    }
    if (*frame.function) {
      Message line;
      line.number(1, function(frame));
      line.number(2, static_cast<uint64_t>(frame.line));
      message.message(4, line);
    }
    profile_.message(kLocation, message);
    return place->second;
  }

  uint64_t function(const HeapFrame& frame) {
    const uint64_t name = text(frame.function), file = text(frame.file);
    const auto [place, is_new] = functions_.try_emplace(name << 32 | file, functions_.size() + 1);
    if (!is_new) return place->second;
    Message message;
    message.number(1, place->second);
    message.number(2, name);
    message.number(3, name);
    message.number(4, file);
    profile_.message(kFunction, message);
    return place->second;
  }

  uint64_t mapping_of(uintptr_t address) const {
    for (size_t i = 0; i < objects_.size(); ++i)
      if (address >= objects_[i].begin && address < objects_[i].end) return i + 1;
    return 0;
  }

  void mapping(size_t index) {
    const Object& object = objects_[index];
    Message message;
    message.number(1, index + 1);
    message.number(2, object.begin);
    message.number(3, object.end);
    message.number(4, object.offset);
    message.number(5, text(object.name));
    message.number(6, text(object.build_id));
    message.number(7, 1);  // the functions are in the profile: pprof need not look for the files
    profile_.message(kMapping, message);
  }

  const ProfileRecord& record_;
  FrameNames names_;
  const std::vector<Object> objects_ = loaded_objects();
  std::unordered_map<std::string, uint64_t> texts_;
  std::vector<std::string_view> order_;  // of texts_
  std::unordered_map<uint64_t, uint64_t> locations_, functions_;
  Message profile_;
};

}  // namespace

std::string to_pprof(const ProfileRecord& record) {
  return Writer(record).write();
}

}  // namespace weft::heap
