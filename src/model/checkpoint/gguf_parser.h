// One pass over a GGUF file's header, metadata and tensor directory. Used by Gguf only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/checkpoint/byte_cursor.h"
#include "model/checkpoint/gguf.h"

namespace pd::model {

class GgufParser {
 public:
  // `bytes` must outlive the result of parse().
  GgufParser(std::span<const std::byte> bytes, std::string name);
  Result<std::unique_ptr<Gguf>> parse();

 private:
  struct Entry {  // of the tensor directory
    std::string name;
    TensorInfo info;
    std::uint64_t offset = 0;  // from the start of the data section
    std::uint64_t size = 0;
  };

  Status read_header();
  Status read_metadata();
  Result<Gguf::Value> read_value(std::uint32_t type);
  Result<Gguf::Value> read_array();
  template <typename T>
  std::optional<Gguf::Value> read_number();
  template <typename T, typename Wide>
  Result<Gguf::Value> read_numbers(std::uint64_t count);
  Result<Gguf::Value> read_strings(std::uint64_t count);

  Status read_directory();
  Result<Entry> read_entry();
  Status read_shape(Entry& entry);
  Status read_alignment();
  Status place_tensors();

  std::unexpected<Error> corrupt(std::string_view message) const;
  std::unexpected<Error> ends_inside(std::string_view what) const;

  std::span<const std::byte> bytes_;
  ByteCursor cursor_;
  std::unique_ptr<Gguf> out_;
  std::uint64_t tensor_count_ = 0;
  std::uint64_t value_count_ = 0;
  std::uint64_t elements_left_;  // of all metadata arrays together
  std::uint64_t alignment_ = 32;
  std::vector<Entry> entries_;
};

}  // namespace pd::model
