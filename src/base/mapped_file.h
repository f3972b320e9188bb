// A whole file mapped read-only: pages are shared by every process that maps it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "base/result.h"

namespace pd {

// Movable owner of the mapping; bytes() stays valid until destruction. A file that another process
// truncates while mapped raises SIGBUS on access: model folders must not be edited in place.
class MappedFile {
 public:
  // Errors: kNotFound, kInvalidArgument (a directory), kUnavailable (the system's reason).
  static Result<MappedFile> open(const std::filesystem::path& path);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

// The whole file as a string; refuses more than `limit` bytes with kTooLarge.
Result<std::string> read_file(const std::filesystem::path& path, std::size_t limit);

}  // namespace pd
