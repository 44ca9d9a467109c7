// Stacks: services that depend on each other, as a TOML file describes them.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "process/service.hpp"

namespace weft::process {

/// Something in a stack file is wrong. what() begins with FILE:LINE:COLUMN where there is such a place, and
/// says what was found and what is expected.
class StackError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What a service has for which its table says nothing.
struct StackDefaults {
  Options options = service_options();
};

/// The services of a file, those that others come after first, otherwise as they stand there. StackError,
/// also where the file cannot be read.
std::vector<Service> read_stack(const std::string& file, const StackDefaults& defaults = {});
/// The same of a text; `file` is for messages.
std::vector<Service> parse_stack(std::string_view text, const std::string& file,
                                 const StackDefaults& defaults = {});

/// Of `services`, those that are named, and what they come after, in the same order. std::invalid_argument
/// for a name that none has.
std::vector<Service> select_services(const std::vector<Service>& services,
                                     const std::vector<std::string>& names);

/// One line for each service, in the order in which they are started, with what it comes after.
std::string describe_order(const std::vector<Service>& services);

}  // namespace weft::process
