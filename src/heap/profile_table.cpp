#include "heap/profile_table.hpp"

#include <cstring>

namespace weft::heap {

namespace {

uint64_t mix(uint64_t value) noexcept {  // the finaliser of MurmurHash3 (A. Appleby)
  value = (value ^ value >> 33) * 0xff51afd7ed558ccd;
  value = (value ^ value >> 33) * 0xc4ceb9fe1a85ec53;
  return value ^ value >> 33;
}

uint64_t hash_text(std::string_view text, uint64_t hash) noexcept {
  while (text.size() >= 8) {
    uint64_t word;
    memcpy(&word, text.data(), 8);
    hash = mix(hash ^ word);
    text.remove_prefix(8);
  }
  uint64_t rest = text.size() + 1;
  for (char c : text) rest = rest << 8 | static_cast<unsigned char>(c);
  return mix(hash ^ rest);
}

}  // namespace

bool ProfileRecord::assign(const ProfileRecord& other) noexcept {
  totals = other.totals;
  return sites.assign(other.sites) && frames.assign(other.frames) && functions.assign(other.functions) &&
         text.assign(other.text);
}

void ProfileRecord::clear() noexcept {
  totals = {};
  sites.clear();
  frames.clear();
  functions.clear();
  text.clear();
}

std::string_view ProfileRecord::file_of(const PythonFunction& function) const noexcept {
  return {text.data() + function.text, function.file_size};
}

std::string_view ProfileRecord::name_of(const PythonFunction& function) const noexcept {
  return {text.data() + function.text + function.file_size, function.name_size};
}

uint32_t ProfileTable::function(std::string_view file, std::string_view name) noexcept {
  const uint64_t hash = hash_text(name, hash_text(file, 0));
  const auto& functions = record_.functions;
  const uint32_t known = functions_.find(hash, [&](uint32_t index) {
    const PythonFunction& each = functions[index];
    return each.hash == hash && record_.name_of(each) == name && record_.file_of(each) == file;
  });
  if (known != HashIndex::kNone) return known;
  const auto index = static_cast<uint32_t>(functions.size());
  const auto text = static_cast<uint32_t>(record_.text.size());
  if (!record_.text.append(file.data(), file.size()) || !record_.text.append(name.data(), name.size()) ||
      !record_.functions.push(
          {hash, text, static_cast<uint32_t>(file.size()), static_cast<uint32_t>(name.size())}) ||
      !functions_.insert(index, [&](uint32_t each) { return functions[each].hash; }))
    return HashIndex::kNone;
  return index;
}

uint32_t ProfileTable::site(const PackedFrame* frames, size_t count) noexcept {
  uint64_t hash = count;
  for (size_t i = 0; i < count; ++i) hash = mix(hash ^ frames[i].word());
  auto& sites = record_.sites;
  const uint32_t known = sites_.find(hash, [&](uint32_t index) {
    const Site& each = sites[index];
    return each.hash == hash && each.frame_count == count &&
           memcmp(record_.frames.data() + each.first_frame, frames, count * sizeof *frames) == 0;
  });
  if (known != HashIndex::kNone) return known;
  Site site{};
  site.hash = hash;
  site.first_frame = static_cast<uint32_t>(record_.frames.size());
  site.frame_count = static_cast<uint32_t>(count);
  const auto index = static_cast<uint32_t>(sites.size());
  if (!record_.frames.append(frames, count) || !sites.push(site) ||
      !sites_.insert(index, [&](uint32_t each) { return sites[each].hash; }))
    return HashIndex::kNone;
  record_.totals.sites = index + 1;
  return index;
}

void ProfileTable::add(uintptr_t block, int64_t bytes, double weight, const PackedFrame* frames,
                       size_t count) noexcept {
  ++record_.totals.samples;
  // One that stood there and was freed unseen, by a pointer of the program's own.
  LiveBlock former;
  take(block, former);
  const uint32_t index = site(frames, count);
  if (index == HashIndex::kNone || !insert({block, bytes, weight, index})) {
    ++record_.totals.lost;
    return;
  }
  Site& site = record_.sites[index];
  ++site.samples;
  site.made_blocks += weight;
  site.made_bytes += weight * static_cast<double>(bytes);
}

size_t ProfileTable::home(uintptr_t block, size_t mask) noexcept {
  return mix(block >> 4) & mask;
}

bool ProfileTable::insert(const LiveBlock& block) noexcept {
  if ((live_count_ + 1) * 2 > live_.size()) {
    Pages<LiveBlock> larger;
    if (!larger.resize(live_.size() ? live_.size() * 2 : 512)) return false;
    const size_t mask = larger.size() - 1;
    for (const LiveBlock& each : live_) {
      if (!each.block) continue;
      size_t at = home(each.block, mask);
      while (larger[at].block) at = (at + 1) & mask;
      larger[at] = each;
    }
    live_.swap(larger);
  }
  const size_t mask = live_.size() - 1;
  size_t at = home(block.block, mask);
  while (live_[at].block) at = (at + 1) & mask;
  ++live_count_;
  live_[at] = block;
  return true;
}

// Deletion without tombstones: what stands behind the gap moves up where it may (D. E. Knuth, "The Art of
// Computer Programming", vol. 3, 6.4, algorithm R).
bool ProfileTable::take(uintptr_t block, LiveBlock& taken) noexcept {
  if (live_.size() == 0) return false;
  const size_t mask = live_.size() - 1;
  size_t gap = home(block, mask);
  while (live_[gap].block != block) {
    if (!live_[gap].block) return false;
    gap = (gap + 1) & mask;
  }
  taken = live_[gap];
  for (size_t at = (gap + 1) & mask; live_[at].block; at = (at + 1) & mask) {
    const size_t wanted = home(live_[at].block, mask);
    if (((at - wanted) & mask) < ((at - gap) & mask)) continue;
    live_[gap] = live_[at];
    gap = at;
  }
  live_[gap] = {};
  --live_count_;
  Site& site = record_.sites[taken.site];
  site.freed_blocks += taken.weight;
  site.freed_bytes += taken.weight * static_cast<double>(taken.bytes);
  return true;
}

void ProfileTable::put_back(const LiveBlock& block) noexcept {
  if (!insert(block)) return;
  Site& site = record_.sites[block.site];
  site.freed_blocks -= block.weight;
  site.freed_bytes -= block.weight * static_cast<double>(block.bytes);
}

void ProfileTable::mark() noexcept {
  const uint32_t place = record_.totals.marks++ % HeapSite::kMarks;
  for (Site& site : record_.sites) site.marked[place] = site.made_blocks - site.freed_blocks;
}

void ProfileTable::clear() noexcept {
  record_.clear();
  sites_.clear();
  functions_.clear();
  live_.clear();
  live_count_ = 0;
}

}  // namespace weft::heap
