#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace weft::engine::interpose::elf {

// A file's bytes, mapped for reading as long as this object lives.
//
// Reading them after another process cut the file short raises SIGBUS, as with any mapping; meant for
// programs and libraries, which are replaced rather than rewritten.
class MappedFile {
 public:
  // error() is an errno if it could not be opened, read or is not a regular file (ENOEXEC).
  explicit MappedFile(const std::string& path) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  int error() const noexcept { return error_; }
  std::span<const std::byte> bytes() const noexcept { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
  int error_ = 0;
};

}  // namespace weft::engine::interpose::elf
