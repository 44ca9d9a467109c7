#pragma once

#include <string>

namespace weft::engine::cli {

/// The path of a library that is loaded into other programs, by the name of its file: beside this program, in
/// the build tree or as installed. Empty with a complaint in `error` where there is none, or it cannot be
/// preloaded from there.
std::string find_preload(const std::string& name, std::string& error);

}  // namespace weft::engine::cli
