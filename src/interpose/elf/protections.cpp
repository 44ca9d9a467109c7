#include "interpose/elf/protections.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string_view>

namespace weft::engine::interpose::elf {

bool Protections::read() {
  mappings_.clear();
  const int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  std::size_t used = 0;
  ssize_t got = 0;
  try {
    do {
      if (text_.size() - used < 16384) text_.resize(2 * text_.size() + 65536);
      got = ::read(file, text_.data() + used, text_.size() - used);
      if (got > 0) used += got;
    } while (got > 0 || (got < 0 && errno == EINTR));
  } catch (...) {
    close(file);
    throw;
  }
  close(file);
  if (got < 0) return false;
  text_.resize(used);
  parse();
  return !mappings_.empty();
}

void Protections::parse() {
  std::string_view rest(text_.data(), text_.size());
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    // "55d0c0000000-55d0c0001000 r-xp ..."
    const char* end = line.data() + line.size();
    Mapping mapping{};
    const auto [dash, begin_error] = std::from_chars(line.data(), end, mapping.range.begin, 16);
    if (begin_error != std::errc() || dash == end) continue;
    const auto [space, end_error] = std::from_chars(dash + 1, end, mapping.range.end, 16);
    if (end_error != std::errc() || end - space < 4) continue;
    mapping.protection = (space[1] == 'r' ? PROT_READ : 0) | (space[2] == 'w' ? PROT_WRITE : 0) |
                         (space[3] == 'x' ? PROT_EXEC : 0);
    mappings_.push_back(mapping);
  }
}

void Protections::assume(const Image& image) {
  mappings_.clear();
  const auto page = [](std::uintptr_t address) { return address & ~std::uintptr_t{4095}; };
  // glibc rounds both ends of RELRO down.
  const AddressRange relro{page(image.relro().begin), page(image.relro().end)};
  image.for_each_segment([&](const Segment& segment) {
    const AddressRange pages{page(segment.range.begin), page(segment.range.end + 4095)};
    if (relro.empty() || !pages.contains(relro.begin)) {
      mappings_.push_back({pages, segment.protection});
      return;
    }
    mappings_.push_back({{pages.begin, relro.begin}, segment.protection});
    mappings_.push_back({relro, segment.protection & ~PROT_WRITE});
    mappings_.push_back({{std::min(relro.end, pages.end), pages.end}, segment.protection});
  });
  std::erase_if(mappings_, [](const Mapping& mapping) { return mapping.range.empty(); });
  std::sort(mappings_.begin(), mappings_.end(),
            [](const Mapping& a, const Mapping& b) { return a.range.begin < b.range.begin; });
}

std::optional<int> Protections::at(std::uintptr_t address) const noexcept {
  const auto after = std::upper_bound(mappings_.begin(), mappings_.end(), address,
                                      [](std::uintptr_t a, const Mapping& m) { return a < m.range.begin; });
  if (after == mappings_.begin() || !std::prev(after)->range.contains(address)) return std::nullopt;
  return std::prev(after)->protection;
}

}  // namespace weft::engine::interpose::elf
