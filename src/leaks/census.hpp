// LeakCensus: what a process has open, running and lying about.
#pragma once

#include <array>
#include <map>
#include <string>

#include "weft/detail/leaks.hpp"

namespace weft::detail {

class LeakCensus {
 public:
  /// Whose segments of System V's shared memory count: of those that this user may see.
  enum class Makers { kThisProcess, kAnybody };
  explicit LeakCensus(uint32_t resources, Makers makers = Makers::kThisProcess) noexcept
      : resources_(resources), makers_(makers) {}

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
  const Makers makers_;
  std::array<Things, kLeakResources> things_;
};

}  // namespace weft::detail
