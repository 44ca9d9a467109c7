// Parts of examine_system().
#pragma once

#include "runtime/doctor.hpp"

namespace weft::engine::doctor {

IoUring examine_io_uring();
std::vector<Limit> examine_limits(GuardKind guards);
std::vector<PythonFound> find_pythons();
/// What `python3 -V` answers, as in "3.12.1"; empty where there is none, or it fails.
std::string find_python3_version();

/// The first line of a file; empty if it cannot be read.
std::string first_line(const std::string& path);

/// What a program writes to standard output and error; empty if it cannot be run. `program[0]` is its path.
std::string output_of(const std::vector<std::string>& program);

}  // namespace weft::engine::doctor
