// Python's string objects, read from outside the interpreter.
#pragma once

#include <cstdint>
#include <string_view>

#include "host/layout.hpp"
#include "host/text_sink.hpp"

namespace weft::engine::host {

/// No file system has longer names.
inline constexpr uint64_t kMaxPythonText = 1024;

/// Writes a string object as UTF-8, cut after `limit` characters; "???" for what is none. What could disturb
/// a terminal becomes a question mark. Async-signal-safe; survives any pointer.
void write_python_text(const Layout& layout, uintptr_t object, TextSink& sink,
                       uint64_t limit = kMaxPythonText) noexcept;

/// Whether it is a string object that holds `text`, which is ASCII. Async-signal-safe; survives any pointer.
bool python_text_is(const Layout& layout, uintptr_t object, std::string_view text) noexcept;

/// The characters of a string object that is ASCII, without a copy; empty for others. REQUIRES: `object` is
/// null or a string object that lives.
std::string_view own_ascii_text(const Layout& layout, uintptr_t object) noexcept;

}  // namespace weft::engine::host
