// LeakCensus: what a process has open, running and lying about.
#pragma once

#include <array>
#include <map>
#include <string>

#include "weft/detail/leaks.hpp"

namespace weft::detail {

class LeakCensus {
 public:
  explicit LeakCensus(uint32_t resources) noexcept : resources_(resources) {}

  struct Thing {
    int64_t number;
    std::string path, text;
  };
  /// By what tells one from its successors under the same number.
  using Things = std::map<std::string, Thing>;

  uint32_t resources() const noexcept { return resources_; }
  const Things& of(LeakResource resource) const noexcept { return things_[static_cast<size_t>(resource)]; }
  bool has_more_than(const LeakCensus& before) const noexcept;

  /// Throws std::bad_alloc, std::system_error (no descriptor is left).
  void take();

 private:
  Things& of(LeakResource resource) noexcept { return things_[static_cast<size_t>(resource)]; }
  void take_descriptors();
  void take_threads();
  void take_fibers();
  void take_children();
  void take_files();
  void take_segments();
  void take_names(LeakResource resource, const std::string& folder);

  const uint32_t resources_;
  std::array<Things, kLeakResources> things_;
};

}  // namespace weft::detail
