#include "heap/profile_symbols.hpp"

#include <cxxabi.h>

#include <cstdlib>

namespace weft::heap {

namespace {

std::string demangled(std::string_view symbol) {
  const std::string name(symbol.substr(0, symbol.find('@')));
  if (!name.starts_with("_Z")) return name;  // a C function's "f" would become "float"
  int status = 0;
  char* plain = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string result = plain ? plain : name;
  std::free(plain);
  return result;
}

}  // namespace

const HeapFrame& FrameNames::frame(PackedFrame packed) {
  const auto [place, is_new] = named_.try_emplace(packed.word());
  Named& named = place->second;
  if (!is_new) return named.frame;
  named.frame.python = packed.is_python();
  if (packed.is_python()) {
    const PythonFunction& function = record_.functions[packed.function()];
    named.function = record_.name_of(function);
    named.file = record_.file_of(function);
    named.frame.line = packed.line();
  } else {
    named.frame.address = packed.address();
    const engine::dump::Symbol symbol = symbols_->find(packed.address());
    named.function = demangled(symbol.function);
    named.file = symbol.object;
  }
  named.frame.function = named.function.c_str();
  named.frame.file = named.file.c_str();
  return named.frame;
}

}  // namespace weft::heap
